"""The parameters of every phase of a config: where each starts, how fast it moves, how many."""

from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from tljax import trees
from tljax.experiment import results, start
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.experiment.fields import Config
from tljax.phase import prepare, transfer
from tljax.train.step import evaluated


def collect(config: Config) -> dict[str, list[dict[str, Any]]]:
    """phase -> its parameters, each with `path`, `shape`, `count`, `origin` and `factor`.

    `origin` is "fresh", an earlier phase, "run:WORKDIR", or "prepare.NAME" of what is fitted;
    `factor` is that on the learning rate, 0 of a parameter that is frozen. Nothing is trained, but
    what a phase prepares is fitted, on parameters that have not been trained either.

    Raises:
      UserError: a mistake in the config, its patterns among them.
    """
    built = build(check(config))
    earlier: dict[str, results.Variables] = {}
    parameters = {}
    for name, phase in built.phases.items():
        state = start.fresh(built, name, 0, earlier)
        fitted = {
            f"heads/{preparation.head}": f"prepare.{entry}"
            for entry, preparation in phase.prepare.items()
            if "head" in dict(preparation.static) and preparation.function not in prepare.READERS
        }
        before = {key: variables["params"] for key, variables in earlier.items()}
        rules = phase.start or transfer.usual(state.params, before)
        trains = bool(built.config.phases[name].steps)
        factors = [(pattern, factor or 0.0) for pattern, factor in phase.train.items()]
        origins = (*((f"{head}/**", by) for head, by in fitted.items()), *rules)
        parameters[name] = [
            {
                "path": path,
                "shape": tuple(leaf.shape),
                "count": trees.count(leaf),
                "origin": trees.first(path, origins)[1],
                "factor": float(trees.first(path, factors)[1]) if trains else 0.0,
            }
            for path, leaf in trees.flatten(state.params).items()
        ]
        variables = jax.device_get(evaluated(state))
        earlier[name] = results.with_heads(results.carried(earlier), variables)
    return parameters


def show(config: Config) -> None:
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
