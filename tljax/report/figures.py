"""Figures of a run, drawn when it has ended."""

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tljax import metrics
from tljax.checks import finite
from tljax.errors import failure
from tljax.phase.evaluate import outputs
from tljax.phase.objective import Incomplete
from tljax.phase.scoring import Outputs, Split
from tljax.report import confusion
from tljax.report.canvas import NAMED, canvas, save, short

# Okabe & Ito's palette, told apart by colour-blind readers; its yellow is too faint for a line.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TOTAL = "total (weighted)"  # in a legend
APART = ("gradient_norm", "learning_rate")  # in training records, but not losses
TICKS = 6  # more numbers than that are places on an axis
POINTS = 600  # of all evaluations in `features.png`, so that t-SNE takes a second or two

Curve = list[tuple[float, float]]  # (step since the run began, value); NaN between phases


def draw(
    workdir: str | os.PathLike,
    network: Any,
    first: Mapping[str, Any],
    finals: Mapping[str, Mapping[str, Any]],
    splits: Mapping[str, Split],
    records: Sequence[Mapping[str, Any]],
    said: Mapping[str, Outputs] | None = None,
) -> dict[str, dict[str, str]]:
    """Draws a run's figures into `workdir/figures`; the same run gives the same bytes.

    They are `losses.png`, `accuracy.png`, `features.png` and a `confusion_NAME.png` for every
    evaluation. Evaluations whose head has no parameters, and empty figures, are left out.

    Args:
      workdir, network: of the run; an unbound `models.Network`.
      first, finals: the variables `{"params", "batch_stats"}` at the start; phase -> at its end.
      splits, records: evaluation name -> what is evaluated; the lines of `metrics.jsonl`.
      said: evaluation name -> what the finals have given of it already.

    Returns:
      Figure -> `{"failed": why}`, of those that could not be drawn; the others are there.
    """
    folder = Path(workdir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    undrawn: dict[str, dict[str, str]] = {}

    def drawn(name: str, function: Callable, *arguments: Any) -> None:
        try:
            function(*arguments, folder / name)
        except Exception as error:
            undrawn[name] = failure(f"figures/{name}", error)

    def confused(split: Split, path: Path) -> None:
        predicted = (said or {}).get(split.name) or _outputs(network, finals[split.phase], split)
        finite("outputs", predicted.logits)
        confusion.draw(split, predicted, path)

    losses, accuracy, starts = _panels(records)
    drawn("losses.png", _curves, losses, starts)
    drawn("accuracy.png", _curves, {"accuracy": accuracy}, starts)
    heads = {phase: final["params"].get("heads", {}) for phase, final in finals.items()}
    kept = [split for split in splits.values() if split.head in (*heads[split.phase], "")]
    for split in kept:
        if split.readout == "logits" and split.table.label is not None:
            drawn(f"confusion_{split.name.replace('/', '_')}.png", confused, split)
    drawn("features.png", _features, network, first, finals, kept)
    return undrawn


def _panels(records: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, Curve], dict[str, int]]:
    """The panels of `losses.png`, the curves of accuracies, and where the phases start."""
    lengths = {record["phase"]: record["step"] for record in records}  # the last of each counts
    starts = dict(zip(lengths, np.cumsum([0, *lengths.values()]).tolist(), strict=False))
    curves: dict[tuple[str, str], Curve] = defaultdict(list)
    for record in records:
        start = starts[record["phase"]]
        for name in record.keys() - {"phase", "step", "kind"}:
            curve = curves[record["kind"], name]
            if curve and curve[-1][0] <= start:
                curve.append((np.nan, np.nan))
            curve.append((start + record["step"], record[name]))
    train = {name: curve for (kind, name), curve in sorted(curves.items()) if kind == "train"}
    accuracy = {k: c for (k, n), c in sorted(curves.items()) if k != "train" and n == "accuracy"}
    apart = {name.replace("_", " "): {"": train.pop(name)} for name in APART if name in train}
    total = {TOTAL: train.pop("loss")} if train else {}
    return {"loss": {**train, **total}, **apart}, accuracy, starts


def _outputs(network: Any, variables: Mapping[str, Any], split: Split) -> Outputs:
    return outputs(network, variables["params"], variables["batch_stats"], split)


def intervals(
    rows: Sequence[tuple[str, Sequence[float]]],
    path: str | os.PathLike,
    xlabel: str,
    found: Sequence[metrics.Interval] = (),
) -> None:
    """One row a method: its runs as dots, and their mean with its 95 % interval (Student's t).

    Args:
      rows: (method, one number a run), drawn from the top.
      path, xlabel: of the PNG file; what the numbers are, with their unit.
      found: the interval of each row, where it is another than Student's.
    """
    figure = canvas(7, 0.9 + 0.45 * len(rows))
    axes = figure.subplots()
    bar = dict(fmt="o", ms=6, lw=2, capsize=4, capthick=2, color=PALETTE[0])
    for y, (_, values) in enumerate(rows):
        mean, half = found[y] if found else metrics.interval(values)
        axes.plot(values, [y + 0.2] * len(values), "o", ms=4.5, mew=0, color="0.6", alpha=0.7)
        axes.errorbar(mean, y - 0.1, xerr=half if len(values) > 1 else None, **bar)
        text = f"{mean:.3f} ± {half:.3f}" if len(values) > 1 else f"{mean:.3f}"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [short(name, 60) for name, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="0.9")
    save(figure, Path(path))


def bands(
    curves: Mapping[str, Sequence[Mapping[int, float]]], path: str | os.PathLike, ylabel: str
) -> None:
    """The mean over runs at every step, with its 95 % interval as a band.

    Args:
      curves: name in the legend -> step -> value, of each run.
      path: of the PNG file.
      ylabel: what the values are.
    """
    figure = canvas(7, 4.5)
    axes = figure.subplots()
    for (name, runs), colour in zip(curves.items(), itertools.cycle(PALETTE), strict=False):
        at = sorted({step for run in runs for step in run})
        ranges = [metrics.interval([run[step] for run in runs if step in run]) for step in at]
        means, halves = np.array(ranges).reshape(-1, 2).T
        axes.plot(at, means, color=colour, label=short(name, 80))
        if len(runs) > 1:
            halves = np.nan_to_num(halves, posinf=0.0)
            axes.fill_between(at, means - halves, means + halves, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="step", ylabel=ylabel, xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    long = max(map(len, curves), default=0) > 36  # characters: two do not fit side by side
    if len(curves) <= NAMED // (1 + long):
        below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
        axes.legend(ncols=2 - long, fontsize=8, **below)
    save(figure, Path(path))


def effects(
    fields: Mapping[str, Sequence[tuple[Any, Sequence[float]]]],
    path: str | os.PathLike,
    ylabel: str,
) -> None:
    """A panel a field: for each of its values all runs, and their mean with its 95 % interval.

    Args:
      fields: name -> (value, the results of all runs that had it), in order.
      path: of the PNG file.
      ylabel: what the results are.
    """
    if not fields:
        return
    figure = canvas(max(3.2 * len(fields), 4), 3.6)
    grid = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, (field, values) in zip(grid, fields.items(), strict=True):
        drawn = len(values) > TICKS and all(isinstance(value, int | float) for value, _ in values)
        for i, (value, results) in enumerate(values):
            x, colour = (value, PALETTE[0]) if drawn else (i, "0.6")
            axes.plot([x] * len(results), results, "o", ms=4, mew=0, color=colour, alpha=0.6)
            if len(results) > 1 + drawn:  # between many, the interval of two hides the rest
                axes.errorbar(x, *metrics.interval(results), fmt="o", capsize=4, color=PALETTE[0])
        scale = "log" if drawn and 0 < 100 * values[0][0] <= values[-1][0] else "linear"
        axes.set(xlabel=field, xscale=scale, xmargin=0.1)
        if not drawn:
            axes.set_xticks(range(len(values)), [short(value) for value, _ in values])
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel(ylabel)
    save(figure, Path(path))


def _curves(panels: Mapping[str, dict[str, Curve]], starts: Mapping[str, int], path: Path) -> None:
    """Panels one below another, the first one larger: quantity -> name in the legend -> curve."""
    if not any(panels.values()):
        return
    figure = canvas(7, 2.5 + 1.3 * len(panels))
    tall = [3.0] + [1.0] * (len(panels) - 1)
    grid = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=tall)[:, 0]
    for axes, (quantity, curves) in zip(grid, panels.items(), strict=True):
        for (name, curve), colour in zip(curves.items(), itertools.cycle(PALETTE), strict=False):
            look = dict(color=colour if name else "0.4", ls="--" if name == TOTAL else "-")
            marker = "o" if len(curve) < 30 else ""
            axes.plot(*zip(*curve, strict=True), label=short(name), marker=marker, ms=3.5, **look)
        if any(curves):
            axes.legend(frameon=False)
        axes.set_ylabel(quantity)
        axes.spines[["top", "right"]].set_visible(False)
        for start in [*starts.values()][1:]:
            axes.axvline(start, color="0.6", lw=1, ls=":")
    for phase, start in starts.items() if len(starts) > 1 else ():
        near = dict(xytext=(2, 3), textcoords="offset points", color="0.4", fontsize=9)
        grid[0].annotate(short(phase), (start, 1), xycoords=grid[0].get_xaxis_transform(), **near)
    grid[0].set(xlim=(0, None), ylim=(0, 1.02) if "accuracy" in panels else None)
    grid[-1].set_xlabel("step")
    figure.align_ylabels()
    save(figure, path)


def _features(network: Any, first: Any, finals: Any, splits: Sequence[Split], path: Path) -> None:
    """t-SNE (van der Maaten & Hinton 2008) of all splits together, before and after training."""
    features: list[list[np.ndarray]] = []
    classes: list[str] = []
    domains: list[str] = []
    for i, split in enumerate(splits):
        order = np.random.default_rng(i).permutation(len(split.table))
        few = order[: min(300, max(POINTS // len(splits), 1))]
        own = split.head in first["params"].get("heads", {})  # then its evaluation's program serves
        drawn = split._replace(table=split.table.take(few), head=split.head if own else "")
        try:
            trained = _outputs(network, finals[split.phase], drawn)
            pair = [_outputs(network, first, drawn).features, trained.features]
        except Incomplete:
            continue  # the run did not start with this trunk, stem or stream's statistics
        if len({array.shape[1] for array in sum(features, pair)}) > 1:
            continue
        if not all(np.isfinite(array).all() for array in pair):
            continue  # the others can be embedded without them
        features.append(pair)
        ids, count = trained.labels, len(few)
        names = [] if ids is None else confusion.names(split, int(ids.max()) + 1)
        classes += ["unlabelled"] * count if ids is None else [names[i] for i in ids]
        domains += [split.name] * count
    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
        embedded = pool.map(_embedded, map(np.concatenate, zip(*features, strict=True)))
        points = [plane for plane in embedded if plane is not None]
    if len(points) < 2:
        return
    from matplotlib import colormaps

    figure = canvas(8, 8)
    mixed = np.random.default_rng(0).permutation(len(domains))  # so that none covers the others
    grid = figure.subplots(2, 2, subplot_kw=dict(xticks=[], yticks=[]))
    for column, by, labels in zip(grid.T, ("class", "domain"), (classes, domains), strict=True):
        kinds, places = np.unique(labels, return_inverse=True)
        tab = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
        palette = PALETTE if by == "domain" else [tab(i) for i in range(tab.N)]
        colours = [palette[i % len(palette)] for i in range(len(kinds))]
        for axes, at, when in zip(column, points, ("before", "after"), strict=True):
            axes.scatter(*at[mixed].T, c=[colours[i] for i in places[mixed]], s=14, lw=0, alpha=0.8)
            axes.set(title=f"{when} training, by {by}", xlabel="t-SNE 1", ylabel="t-SNE 2")
            axes.spines[:].set_color("0.8")
        if len(kinds) <= NAMED:
            for name, colour in zip(kinds, colours, strict=True):
                column[1].scatter([], [], color=colour, s=24, label=short(name))
            below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
            column[1].legend(ncols=5 if max(map(len, kinds)) < 6 else 3, **below)
    save(figure, path)


def _embedded(features: np.ndarray) -> np.ndarray | None:
    """Features `[n, width]` in the plane `[n, 2]`; None where they are too few or all alike."""
    from sklearn.manifold import TSNE

    features = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    spread = features.std()  # sklearn would divide by it, and crash on NaN
    if len(features) < 5 or not np.isfinite(spread) or spread < 1e-9:
        return None
    start = "pca" if features.shape[1] > 1 else "random"
    tsne = TSNE(init=start, perplexity=min(30, len(features) / 4), max_iter=500, random_state=0)
    with threadpool_limits(1, "openmp"):  # of this thread, so that sums come in one order
        return tsne.fit_transform(features / spread)
