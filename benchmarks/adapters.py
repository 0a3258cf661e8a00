"""What adapters cost beside full fine-tuning, by the compiled program's own account of its memory:
python -m benchmarks.adapters. Nothing is run: only compiled, for the device that is there.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tljax
from benchmarks import frame
from tljax import trees
from tljax.models import ViT, adapters
from tljax.models.resnet import ResNet
from tljax.phase import transfer
from tljax.phase.phase import numbers
from tljax.train import starting, step

ONLY = ("trunk/**/attention/**/kernel",)
NETWORKS: dict[str, tuple[Any, tuple[str, ...]]] = {  # trunk, kernels that are adapted
    "ViT-B/16": (ViT(variant="base"), ONLY),
    "ViT-S/16": (ViT(variant="small"), ONLY),
    "ResNet-50": (ResNet(depth=50), ("trunk/layer4_*/conv?/kernel", "trunk/layer3_*/conv1/kernel")),
}
RANKS = {"ViT-B/16": 8, "ViT-S/16": 4, "ResNet-50": 1}
OURS = {"adapters/**": 1.0, "heads/**": 1.0, "**": 0}


def phase(trunk: Any, only: tuple[str, ...], rank: int, batch: int, **fields: Any) -> tljax.Phase:
    """Fine-tuning on 10 classes by AdamW; of a rank above 0 LoRA and the head alone move."""
    own = {"lora": adapters.LoRA(only=only, rank=rank)} if rank else {}
    heads = {"label": tljax.models.Linear()}
    return numbers(
        tljax.Phase(
            network=tljax.Network(trunk=trunk, heads=heads, adapters=own, **fields),
            streams=[tljax.Stream("target", batch=batch)],
            terms={"label": tljax.term("cross_entropy", stream="target")},
            optimizer=tljax.optimizer("adamw", learning_rate=1e-3),
            train=OURS if rank else {"**": 1.0},
        )
    )


def account(of: tljax.Phase, table: Any) -> dict[str, float]:
    """Parameters that move, elements of the optimiser's state, bytes of a compiled step."""
    key = jax.random.key(0)
    start = starting.check(of, {"target": table}, {}, key, {})
    state = jax.eval_shape(step.initialise, of, {**start, "tables": {}, "rows": {}}, key)
    moving = trees.partition(state.params, transfer.moving(state.params, of.train))[0]
    lowered = step.single_step.lower(of, state, {"target": table}, {}, np.bool_(True))
    memory: Any = lowered.compile().memory_analysis()
    whole = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return {
        "parameters": trees.count(state.params),
        "moving": trees.count(moving),
        "optimiser": trees.count(state.optimizer),
        "bytes": whole + memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }


def compared(name: str, batch: int, **fields: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """The account of full fine-tuning and of LoRA."""
    trunk, only = NETWORKS[name]
    images = np.zeros((batch, 224, 224, 3), np.uint8)
    labels = np.arange(batch, dtype=np.int32) % 10
    table = tljax.Table(input=images, label=labels, classes=tuple("0123456789"))
    table = jax.tree.map(jnp.asarray, table)
    for kind, rank in (("full", 0), ("LoRA", RANKS[name])):
        yield kind, account(phase(trunk, only, rank, batch, **fields), table)


def main() -> None:
    parser = frame.flags(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--network", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    with frame.measured("adapters", options, timed=False) as record:
        record |= {"precision": options.precision, "rows": []}
        record.head(
            *("network", "batch", "moving", "optimiser", "full: MiB", "LoRA: MiB", "LoRA / full")
        )
        for name in options.network:
            for batch in options.batch:
                both = dict(compared(name, batch, precision=options.precision))
                full, lora = both["full"], both["LoRA"]
                record.row(
                    *(name, batch, f"{lora['moving'] / full['parameters']:.2%}"),
                    f"{lora['optimiser']:,} of {full['optimiser']:,}",
                    *(f"{each['bytes'] / 2**20:,.0f}" for each in (full, lora)),
                    f"{lora['bytes'] / full['bytes']:.2f}",
                )
                record["rows"].append({"network": name, "batch": batch, **both})


if __name__ == "__main__":
    main()
