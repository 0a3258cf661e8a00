"""The parameters of every phase of a config: where each starts, how fast it moves, how many."""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from tljax import prepare, results, running, starting, transfer, trees
from tljax.assembly import rules
from tljax.experiment import resolve


def collect(config: ConfigDict | Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """phase -> its parameters, each with `path`, `shape`, `count`, `origin` and `factor`.

    `origin` is "fresh", an earlier phase, "run:WORKDIR", or "prepare.NAME" of what is fitted;
    `factor` is that on the learning rate, 0 of a parameter that is frozen. Nothing is trained, but
    what a phase prepares is fitted, on parameters that have not been trained either.

    Raises:
      UserError: a mistake in the config, its patterns among them.
    """
    built = running.build(resolve(config))
    earlier: dict[str, results.Variables] = {}
    found = {}
    for index, (name, fields) in enumerate(zip(built.names, built.fields, strict=True)):
        phase, state = starting.begin(
            built.phase(index), fields, earlier, built.data, built.config["seed"]
        )
        fitted = {
            f"heads/{arguments['head']}": f"prepare.{entry}"
            for entry, (function, arguments) in prepare.parse(fields["prepare"], name).items()
            if "head" in arguments and function not in prepare.READERS
        }
        before = {key: value["params"] for key, value in earlier.items()}
        start = rules(fields["start"], f"{name}.start") or transfer.usual(state.params, before)
        factors = trees.flatten(
            trees.label(state.params, rules(fields["train"], "train"), f"{name}.train")
        )
        found[name] = [
            {
                "path": path,
                "shape": tuple(leaf.shape),
                "count": trees.count(leaf),
                "origin": next(
                    (by for head, by in fitted.items() if path.startswith(f"{head}/")), None
                )
                or next(origin for pattern, origin in start if trees.match(pattern, path)),
                "factor": float(factors[path]) if phase.steps else 0.0,
            }
            for path, leaf in trees.flatten(state.params).items()
        ]
        own = jax.device_get(results.variables(state))
        earlier[name] = results.with_heads(results.carried(earlier), own)
    return found


def show(config: ConfigDict | Mapping[str, Any]) -> None:
    """Prints every phase's parameters: copied from where, moving or frozen, and the counts."""
    console = Console()
    for name, leaves in collect(config).items():
        table = Table(title=f"phase {name}")
        for column in ("parameter", "shape", "number", "starts from", "moves"):
            table.add_column(column, justify="right" if column == "number" else "left")
        for leaf in leaves:
            moves = f"× {leaf['factor']:g}" if leaf["factor"] else "frozen"
            shape = " × ".join(map(str, leaf["shape"])) or "scalar"
            table.add_row(leaf["path"], shape, f"{leaf['count']:,}", leaf["origin"], moves)
        console.print(table)
        total = sum(leaf["count"] for leaf in leaves)
        moving = sum(leaf["count"] for leaf in leaves if leaf["factor"])
        copied = sum(leaf["count"] for leaf in leaves if leaf["origin"] != transfer.FRESH)
        console.print(
            f"{total:,} parameters: {moving:,} move, {total - moving:,} are frozen; "
            f"{copied:,} are copied or fitted, {total - copied:,} fresh",
            highlight=False,
        )
