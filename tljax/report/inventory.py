"""The variables of every phase of a config: where each starts, how fast it moves, how many."""

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
    """phase -> its parameters, then its batch statistics: `path`, `shape`, `count`, `origin` each.

    `origin` is "fresh", an earlier phase, "run:WORKDIR", "weights:FILE", or "prepare.NAME" of what
    is fitted. A parameter has the `factor` on its learning rate, 0 if it is frozen; of a statistic
    `moves` says whether it does. Nothing is trained, but what a phase prepares is fitted, on
    parameters that have not been trained either.

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
        rules, of_statistics = (
            transfer.origins(phase, kind, getattr(state, kind), earlier) for kind in start.KINDS
        )
        trains = bool(built.config.phases[name].steps)
        still = transfer.still(phase, state.params, state.batch_stats)
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
        ] + [
            {
                "path": path,
                "shape": tuple(leaf.shape),
                "count": trees.count(leaf),
                "origin": trees.first(path, of_statistics)[1],
                "moves": trains and path.rpartition("/")[0] not in still,
            }
            for path, leaf in trees.flatten(state.batch_stats).items()
        ]
        variables = jax.device_get(evaluated(state))
        earlier[name] = results.with_heads(results.carried(earlier), variables)
    return parameters


def show(config: Config) -> None:
    """Prints every phase's variables: copied from where, moving or frozen, and the counts."""
    console = Console()
    for name, leaves in collect(config).items():
        table = Table(title=f"phase {name}")
        for column in ("parameter or statistic", "shape", "number", "starts from", "moves"):
            table.add_column(column, justify="right" if column == "number" else "left")
        for leaf in leaves:
            moves = "move" if leaf.get("moves") else "stay"  # statistics
            if "factor" in leaf:
                moves = f"× {leaf['factor']:g}" if leaf["factor"] else "frozen"
            shape = " × ".join(map(str, leaf["shape"])) or "scalar"
            table.add_row(leaf["path"], shape, f"{leaf['count']:,}", leaf["origin"], moves)
        console.print(table)
        statistics = [leaf for leaf in leaves if "moves" in leaf]
        leaves = [leaf for leaf in leaves if "factor" in leaf]
        total = sum(leaf["count"] for leaf in leaves)
        moving = sum(leaf["count"] for leaf in leaves if leaf["factor"])
        copied = sum(leaf["count"] for leaf in leaves if leaf["origin"] != transfer.FRESH)
        console.print(
            f"{total:,} parameters: {moving:,} move, {total - moving:,} are frozen; "
            f"{copied:,} are copied or fitted, {total - copied:,} fresh",
            highlight=False,
        )
        if statistics:
            total = sum(leaf["count"] for leaf in statistics)
            moving = sum(leaf["count"] for leaf in statistics if leaf["moves"])
            console.print(
                f"{total:,} batch statistics: {moving:,} move, {total - moving:,} stay",
                highlight=False,
            )
