"""Runs configs/dann.py over 1 to 8 simulated devices and 2 processes: python -m benchmarks.scale.

Simulated devices share the host's cores: losses and bytes are compared, never times.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import tljax
from benchmarks import frame
from benchmarks.frame import ROOT
from configs import dann
from tljax import experiment, main
from tljax.train import placing
from tljax.train.records import read

LIMIT = 1e-5  # of relative differences of losses; EXCESS: of a device's bytes over an equal part
EARLY, EXCESS = 10, 0.1  # EARLY: the steps in which float32 must keep to it; see README.md
CASES: dict[str, tuple[int, int, dict[str, int]]] = {  # processes, devices of each, mesh
    "1 device": (1, 1, {}),
    "1 device beside 7 unused": (1, 8, {}),
    **{f"data={n}": (1, n, dict(data=n)) for n in (2, 4, 8)},
    **{f"shard={n}": (1, n, dict(shard=n)) for n in (2, 4, 8)},
    "data=2, shard=4": (1, 8, dict(data=2, shard=4)),
    "2 processes of 1 device, data=2": (2, 1, dict(data=2)),
    "2 processes of 4 devices, shard=8": (2, 4, dict(shard=8)),
}
PROGRAMS = {
    "float64": "from benchmarks.scale import in_float64; in_float64()",
    "float32": "from tljax.main import script; script()",
}
BYTES = "from benchmarks.scale import parts; parts()"
Differences = dict[str, dict[str, list[float]]]  # precision -> case -> by step
Parts = dict[str, dict[str, float]]  # case -> kind of array -> part of its bytes on a device


def in_float64() -> None:
    """tljax's command line, but that every run begins with float64 numbers."""
    split = placing.split

    def wide(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    placing.split = lambda tree, over: split(jax.tree.map(wide, tree), over)
    main.script()


def parts() -> None:
    """Prints, of every mesh in one process, what a device holds."""
    found: Parts = {}
    for case, (processes, _, mesh) in CASES.items():
        if processes == 1:
            config = dann.get_config()
            config.mesh.update(mesh)
            built = experiment.build(experiment.check(config))
            [(name, phase)] = built.phases.items()
            state = tljax.start(phase, built.data, built.key(name))
            state = placing.split(state, phase.mesh)
            found[case] = {}
            for kind in ("params", "optimizer", "average"):
                leaves = jax.tree.leaves(getattr(state, kind))
                local = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
                found[case][kind] = local / sum(leaf.nbytes for leaf in leaves)
    print(json.dumps(found))


def output(code: str, devices: int, *calls: list[str], x64: bool = False) -> str:
    """What new processes print that run at once, one for every call of the code."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    environment["JAX_ENABLE_X64"] = str(int(x64))
    with tempfile.TemporaryFile("w+") as said:
        commands = [[sys.executable, "-c", code, *call] for call in calls]
        pipes = {"cwd": ROOT, "env": environment, "stdout": said, "stderr": said}
        running = [subprocess.Popen(command, **pipes) for command in commands]
        codes = [process.wait() for process in running]
        said.seek(0)
        text = said.read()
    if any(codes):
        sys.exit(f"{calls}: exit codes {codes}\n{text}")
    return text


def losses(case: str, precision: str, steps: int) -> np.ndarray:
    """`[terms + 1, steps]`: the terms' and their sum, of a new run in new processes."""
    processes, devices, mesh = CASES[case]
    given = dict(steps=steps, log_every=1, evaluate_every=10**6, checkpoint_every=10**6)
    given |= {"figures": False, **{f"mesh.{axis}": size for axis, size in mesh.items()}}
    flags = ["--config=configs/dann.py", "--quiet"]
    flags += [f"--config.{path}={value}" for path, value in given.items()]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags += [f"--coordinator={address}", f"--num_processes={processes}"]
    with tempfile.TemporaryDirectory() as workdir:
        flags += [f"--workdir={workdir}/run"]
        calls = [[*flags, *[f"--process_id={i}"] * (processes > 1)] for i in range(processes)]
        output(PROGRAMS[precision], devices, *calls, x64=precision == "float64")
        records = [each for each in read(Path(workdir) / "run") if each["kind"] == "train"]
    if [each["step"] for each in records] != list(range(1, steps + 1)):
        sys.exit(f"{case}: not every step has left a record")
    names = (*dann.get_config().terms, "loss")
    return np.array([[each[name] for each in records] for name in names])


def apart(one: np.ndarray, other: np.ndarray) -> list[float]:
    """The greatest relative difference of any loss, step by step."""
    return (np.abs(one - other) / np.abs(one)).max(0).tolist()


def faults(differences: Differences, held: Parts) -> list[str]:
    """What is not as it must be."""
    found = []
    for precision, steps in (("float64", None), ("float32", EARLY)):
        for case, each in differences[precision].items():
            if not np.max(each[:steps]) < LIMIT:
                found.append(f"{case}, {precision}: losses differ by {np.max(each[:steps]):.1e}")
    for case, kinds in held.items():
        equal = 1 / CASES[case][2].get("shard", 1)
        for kind, part in kinds.items():
            if not equal <= part <= (1 + EXCESS) * equal:
                found.append(f"{case}: a device holds {part:.4f} of the bytes of {kind}")
    return found


def compare() -> None:
    parser = frame.flags(__doc__)
    parser.add_argument("--steps", type=frame.positive, default=100)
    steps = (options := parser.parse_args()).steps
    with frame.measured("scale", options, timed=False) as record:
        held = json.loads(output(BYTES, 8, []).splitlines()[-1])
        differences: Differences = {}
        for precision in PROGRAMS:
            curves = {case: losses(case, precision, steps) for case in CASES}
            first = curves["1 device"]
            differences[precision] = {case: apart(first, curve) for case, curve in curves.items()}
        record |= {"steps": steps, "part of the bytes on a device": held}
        record["differences"] = differences
        columns = (("float64", steps), ("float32", EARLY), ("float32", steps))
        heads = ["case", *(f"{precision}, {count} steps" for precision, count in columns)]
        record.head(*heads, "parameters", "optimiser", "average")
        for case in CASES:
            cells = [f"{np.max(differences[p][case][:count]):.1e}" for p, count in columns]
            cells += [f"{part:.4f}" for part in held[case].values()] if case in held else ["—"] * 3
            record.row(case, *cells)
    if found := faults(differences, held):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    compare()
