"""Means of weights: between where a run started and ended, and over the members of a sweep."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import trees
from tljax.checks import Range
from tljax.errors import UserError, wrong
from tljax.experiment import choice, grid, origins, results, start
from tljax.experiment import workdir as workdirs
from tljax.experiment.build import Built, build
from tljax.experiment.check import check
from tljax.experiment.results import Variables
from tljax.phase.evaluate import outputs
from tljax.phase.scoring import score
from tljax.train import checkpoint
from tljax.train.files import write_json
from tljax.train.records import Display

ALPHA = Range(0, 1)
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Kept(NamedTuple):
    """A run that has ended, as its directory has it; its adapters are merged."""

    workdir: Path
    built: Built
    finals: dict[str, Variables]

    @property
    def last(self) -> str:
        """The last phase."""
        return list(self.finals)[-1]


def wise(
    workdir: str | Path, alphas: Sequence[float] = ALPHAS, out: str | Path | None = None
) -> list[dict[str, Any]]:
    """A run's evaluations between the start (α = 0) and the end (α = 1) of its last phase.

    WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"): weights, and running
    statistics, are (1 − α)·start + α·end. Nothing is trained. The head should have been fitted
    before the phase, or α = 0 is of no use.

    Args:
      workdir: of a run that has ended.
      alphas: each from 0 to 1.
      out: where what a single α gives is left as a run is, for `tljax.load`; nowhere if None.

    Returns:
      A row an α: `alpha`, and every metric as `EVALUATION/METRIC`.

    Raises:
      UserError: no run there, one that has not ended, or an α that is none.
    """
    if out is not None and len(alphas) != 1:
        raise wrong("--over", list(alphas), "one alpha, of what is left in --workdir")
    run, rows = _kept(Path(workdir)), []
    first = results.with_heads(
        results.carried({n: run.finals[n] for n in list(run.finals)[:-1]}),
        _merged(run.built, start.first(run.workdir, run.last)),
    )
    for alpha in alphas:
        share = ALPHA.fit(alpha, "alpha")
        mixed = _mean([first, run.finals[run.last]], [1 - share, share])
        result, judged = _judged(run, mixed, {"alpha": share})
        rows.append({"alpha": share, **_metrics(result)})
        if out is not None:
            _leave(run, mixed, result, judged, Path(out))
    return rows


def soup(workdir: str | Path, out: str | Path, select: str = "") -> dict[str, Any]:
    """The mean of the weights of a sweep's members, left as a run is, for `tljax.load`.

    Wortsman et al. 2022, "Model soups". Uniform: of all members; greedy, with `select`: members
    are taken in from the best down where the mean does not get worse.

    Args:
      workdir: of a sweep whose members started from the same weights.
      out: a directory for it.
      select: "EVALUATION/METRIC" of an evaluation without labels or for validation; "": uniform.

    Returns:
      What `result.json` holds, with `soup`, the members that are in it.

    Raises:
      UserError: no sweep there, members of several networks, or a choice by test labels.
    """
    sweep = workdirs.recorded(Path(workdir))
    if not sweep.sweep:
        raise wrong("--run", str(workdir), "the directory of a sweep")
    named = choice.readable(select, sweep.config) if select else ""
    reached = {
        path.name: result
        for path in sorted((Path(workdir) / "members").iterdir())
        if (result := workdirs.result(path)) is not None and "failed" not in result
    }
    if not reached:
        raise wrong("--run", str(workdir), "a sweep of which a member has finished")
    sign = -1 if choice.lower(select) else 1
    if select:
        worth = {name: sign * _metric(result, select) for name, result in reached.items()}
        reached = {name: reached[name] for name in sorted(worth, key=lambda n: -worth[n])}
    paths = {name: Path(workdir) / "members" / name for name in reached}
    best = _kept(next(iter(paths.values())))
    weights: list[Variables] = []
    taken: list[str] = []
    highest = -np.inf
    for name, path in paths.items():
        variables = _kept(path, best).finals[best.last]
        mean = _mean([*weights, variables], [1 / (len(weights) + 1)] * (len(weights) + 1))
        value = sign * _metric(_scored(best, mean, named), select) if select else np.inf
        if value >= highest:
            highest, weights, taken = value, [*weights, variables], [*taken, name]
    mean = _mean(weights, [1 / len(weights)] * len(weights))
    result, judged = _judged(best, mean, {"soup": taken})
    _leave(best, mean, result, judged, Path(out))
    return result


def _kept(workdir: Path, like: Kept | None = None) -> Kept:
    """A run that has ended; one that is to be of the same network as another is not built."""
    config = check(workdirs.recorded(workdir).config)
    if workdirs.result(workdir) is None:
        raise wrong("--run", str(workdir), "the directory of a run that has ended")
    built = like.built if like else build(config)
    finals = origins.finals(workdir, config.phases)
    kept = Kept(workdir, built, {n: _merged(built, each) for n, each in finals.items()})
    if like:
        mine, other = (trees.flatten(each.finals[like.last]) for each in (kept, like))
        if lines := trees.differences(other, mine):
            names = f"{workdir.name} differs from {like.workdir.name} (- lacks, + has, ! shapes)"
            raise UserError(f"soup: expected members of one network; {names}: {'; '.join(lines)}")
    return kept


def _merged(built: Built, variables: Variables) -> Variables:
    return {**variables, "params": dict(built.network.effective(variables["params"]))}


def _mean(variables: Sequence[Variables], shares: Sequence[float]) -> Variables:
    """The sum of trees with shares, in float64 and each leaf in its own type again."""

    def of_leaf(*leaves: Any) -> np.ndarray:
        summed = sum(s * np.asarray(x, np.float64) for s, x in zip(shares, leaves, strict=True))
        return np.asarray(summed).astype(np.asarray(leaves[0]).dtype)

    return jax.tree.map(of_leaf, *variables)


def _judged(
    run: Kept, last: Variables, more: Mapping[str, Any]
) -> tuple[dict[str, Any], results.Judged]:
    """What `result.json` would hold if the last phase had ended so, and what it is made of."""
    splits, finals = run.built.splits, {**run.finals, run.last: last}
    judged = results.judge(run.built.network, finals, splits.values())
    return {**results.assemble(run.built.config, last, judged, splits), **more}, judged


def _scored(run: Kept, last: Variables, name: str) -> dict[str, Any]:
    """One evaluation alone."""
    split = run.built.splits[name]
    found = outputs(run.built.network, last["params"], last["batch_stats"], split)
    return {"evaluations": {name: score(found, split)}}


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{name}/{metric}": value
        for name, values in result["evaluations"].items()
        for metric, value in values.items()
        if isinstance(value, float)
    }


def _metric(result: Mapping[str, Any], select: str) -> float:
    known = _metrics(result)
    if select not in known:
        raise wrong("--select", select, f"one of {', '.join(known)}")
    return known[select]


def _leave(
    run: Kept, last: Variables, result: Mapping[str, Any], judged: results.Judged, out: Path
) -> None:
    """A directory as a run leaves it, but for the end of its last phase and what that reaches."""
    if out.exists() and any(out.iterdir()):
        raise wrong("--workdir", str(out), "a directory that is empty or not there")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", workdirs.DATA):
        shutil.copy(run.workdir / name, out / name)
    final = run.workdir / "phases" / run.last / "final"
    shutil.copytree(
        run.workdir / "phases",
        out / "phases",
        ignore=lambda path, names: [n for n in names if Path(path) / n == final],
    )
    checkpoint.save(out / "phases" / run.last / "final", last)
    results.keep_predictions(out, judged, run.built.splits)
    write_json(out / "result.json", dict(result))


def show(workdir: str, out: str, select: str, over: Sequence[str]) -> None:
    """What `tljax soup` does: of a sweep's directory a soup, of a run's a curve over alpha."""
    if not workdir:
        raise wrong("--run", workdir, "tljax soup --run DIR --workdir OUT")
    display = Display(quiet=False)
    if workdirs.recorded(Path(workdir)).sweep:
        if not out:
            raise wrong("--workdir", out, "a directory for the soup")
        results.show(display, soup(workdir, out, select))
        return
    points = grid.parse(over) if over else [{"alpha": alpha} for alpha in ALPHAS]
    if any(set(point) != {"alpha"} for point in points):
        raise wrong("--over", list(over), "alpha=VALUES, the shares of the end, from 0 to 1")
    rows = wise(workdir, [point["alpha"] for point in points], out or None)
    shown = [key for key in rows[0] if key.endswith(("/accuracy", "/loss"))] or list(rows[0])[1:]
    cells = [[f"{row['alpha']:g}", *(f"{row[key]:.4f}" for key in shown)] for row in rows]
    display.table(f"{workdir}: from its start to its end", ["alpha", *shown], cells)
