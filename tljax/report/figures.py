"""Figures of a run, drawn when it has ended. A file is written whole or not at all."""

import itertools
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tljax import metrics
from tljax.phase.evaluate import Outputs, Split, confusion, outputs
from tljax.phase.objective import Incomplete

# Okabe & Ito's palette, told apart by colour-blind readers; its yellow is too faint for a line.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TOTAL = "total (weighted)"  # in a legend
APART = ("gradient_norm", "learning_rate")  # in training records, but not losses
TICKS = 6  # more numbers than that are places on an axis
NAMED = 20  # more classes than that get no counts and no legend
POINTS = 600  # of all evaluations in `features.png`, so that t-SNE takes a second or two

Curve = list[tuple[float, float]]  # (step since the run began, value); NaN between phases


def draw(
    workdir: str | os.PathLike,
    network: Any,
    first: Mapping[str, Any],
    finals: Mapping[str, Mapping[str, Any]],
    splits: Mapping[str, Split],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Draws a run's figures into `workdir/figures`; the same run gives the same bytes.

    They are `losses.png`, `accuracy.png`, `features.png` and a `confusion_NAME.png` for every
    evaluation. Evaluations whose head has no parameters, and empty figures, are left out.

    Args:
      workdir, network: of the run; an unbound `models.Network`.
      first, finals: the variables `{"params", "batch_stats"}` at the start; phase -> at its end.
      splits, records: evaluation name -> what is evaluated; the lines of `metrics.jsonl`.
    """
    folder = Path(workdir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
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
    _curves({"loss": {**train, **total}, **apart}, starts, folder / "losses.png")
    _curves({"accuracy": accuracy}, starts, folder / "accuracy.png")
    heads = {phase: final["params"].get("heads", {}) for phase, final in finals.items()}
    kept = [split for split in splits.values() if split.head in (*heads[split.phase], "")]
    for split in kept:
        if split.readout == "logits" and split.table.label is not None:
            name = split.name.replace("/", "_")
            predicted = _outputs(network, finals[split.phase], split)
            _confusion(split, predicted, folder / f"confusion_{name}.png")
    _features(network, first, finals, kept, folder / "features.png")


def _outputs(network: Any, variables: Mapping[str, Any], split: Split) -> Outputs:
    return outputs(network, variables["params"], variables["batch_stats"], split)


def intervals(
    rows: Sequence[tuple[str, Sequence[float]]], path: str | os.PathLike, xlabel: str
) -> None:
    """One row a method: its runs as dots, and their mean with its 95 % interval (Student's t).

    Args:
      rows: (method, one number a run), drawn from the top.
      path, xlabel: of the PNG file; what the numbers are, with their unit.
    """
    figure = _figure(7, 0.9 + 0.45 * len(rows))
    axes = figure.subplots()
    bar = dict(fmt="o", ms=6, lw=2, capsize=4, capthick=2, color=PALETTE[0])
    for y, (_, values) in enumerate(rows):
        mean, half = metrics.interval(values)
        axes.plot(values, [y + 0.2] * len(values), "o", ms=4.5, mew=0, color="0.6", alpha=0.7)
        axes.errorbar(mean, y - 0.1, xerr=half if len(values) > 1 else None, **bar)
        text = f"{mean:.3f} ± {half:.3f}" if len(values) > 1 else f"{mean:.3f}"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="0.9")
    _save(figure, Path(path))


def bands(
    curves: Mapping[str, Sequence[Mapping[int, float]]], path: str | os.PathLike, ylabel: str
) -> None:
    """The mean over runs at every step, with its 95 % interval as a band.

    Args:
      curves: name in the legend -> step -> value, of each run.
      path: of the PNG file.
      ylabel: what the values are.
    """
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    for (name, runs), colour in zip(curves.items(), itertools.cycle(PALETTE), strict=False):
        at = sorted({step for run in runs for step in run})
        ranges = [metrics.interval([run[step] for run in runs if step in run]) for step in at]
        means, halves = np.array(ranges).reshape(-1, 2).T
        axes.plot(at, means, color=colour, label=name)
        if len(runs) > 1:
            halves = np.nan_to_num(halves, posinf=0.0)
            axes.fill_between(at, means - halves, means + halves, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="step", ylabel=ylabel, xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    long = max(map(len, curves), default=0) > 36  # characters: two do not fit side by side
    if len(curves) <= NAMED // (1 + long):
        below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
        axes.legend(ncols=2 - long, fontsize=8, **below)
    _save(figure, Path(path))


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
    figure = _figure(max(3.2 * len(fields), 4), 3.6)
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
            axes.set_xticks(range(len(values)), [str(value) for value, _ in values])
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel(ylabel)
    _save(figure, Path(path))


def _curves(panels: Mapping[str, dict[str, Curve]], starts: Mapping[str, int], path: Path) -> None:
    """Panels one below another, the first one larger: quantity -> name in the legend -> curve."""
    if not any(panels.values()):
        return
    figure = _figure(7, 2.5 + 1.3 * len(panels))
    tall = [3.0] + [1.0] * (len(panels) - 1)
    grid = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=tall)[:, 0]
    for axes, (quantity, curves) in zip(grid, panels.items(), strict=True):
        for (name, curve), colour in zip(curves.items(), itertools.cycle(PALETTE), strict=False):
            look = dict(color=colour if name else "0.4", ls="--" if name == TOTAL else "-")
            marker = "o" if len(curve) < 30 else ""
            axes.plot(*zip(*curve, strict=True), label=name, marker=marker, ms=3.5, **look)
        if any(curves):
            axes.legend(frameon=False)
        axes.set_ylabel(quantity)
        axes.spines[["top", "right"]].set_visible(False)
        for start in [*starts.values()][1:]:
            axes.axvline(start, color="0.6", lw=1, ls=":")
    for phase, start in starts.items() if len(starts) > 1 else ():
        near = dict(xytext=(2, 3), textcoords="offset points", color="0.4", fontsize=9)
        grid[0].annotate(phase, (start, 1), xycoords=grid[0].get_xaxis_transform(), **near)
    grid[0].set(xlim=(0, None), ylim=(0, 1.02) if "accuracy" in panels else None)
    grid[-1].set_xlabel("step")
    figure.align_ylabels()
    _save(figure, path)


def _confusion(split: Split, predicted: Outputs, path: Path) -> None:
    """Counts as text, and the shares of each true class as colour."""
    classes = predicted.logits.shape[-1]
    counts = confusion(predicted)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names, shown = _names(split, classes), range(0, classes, -(-classes // 60))
    side = min(3.2 + 0.3 * classes, 12)
    figure = _figure(side + 0.8, side)
    axes = figure.subplots(subplot_kw=dict(xlabel="predicted class", ylabel="true class"))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8).outline.set_visible(False)
    look = dict(labels=[names[i] for i in shown], fontsize=10 if classes <= NAMED else 7)
    axes.set_xticks(shown, **look, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(shown, **look)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for i, j in np.argwhere(counts) if classes <= NAMED else ():
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=9, color=colour)
    axes.set_title(f"{split.name}: {np.trace(counts)} of {counts.sum()} correct")
    _save(figure, path)


def _names(split: Split, classes: int) -> list[str]:
    """The names of a head's outputs; a number where the data gives none."""
    known = split.table.classes[:classes]
    return [*known, *map(str, range(len(known), classes))]


def _features(network: Any, first: Any, finals: Any, splits: Sequence[Split], path: Path) -> None:
    """t-SNE (van der Maaten & Hinton 2008) of all splits together, before and after training."""
    features: list[list[np.ndarray]] = []
    classes: list[str] = []
    domains: list[str] = []
    for i, split in enumerate(splits):
        order = np.random.default_rng(i).permutation(len(split.table))
        table = split.table.take(order[: min(300, POINTS // len(splits))])
        drawn = split._replace(table=table, head="")  # features do not depend on heads
        try:
            trained = _outputs(network, finals[split.phase], drawn)
            pair = [_outputs(network, first, drawn).features, trained.features]
        except Incomplete:
            continue  # the run did not start with this trunk, stem or stream's statistics
        if len({array.shape[1] for array in sum(features, pair)}) > 1:
            continue
        features.append(pair)
        ids, count = trained.labels, len(trained.features)
        names = [] if ids is None else _names(split, int(ids.max()) + 1)
        classes += ["unlabelled"] * count if ids is None else [names[i] for i in ids]
        domains += [split.name] * count
    embedded = [_embedded(np.concatenate(arrays)) for arrays in zip(*features, strict=True)]
    points = [plane for plane in embedded if plane is not None]
    if len(points) < 2:
        return
    from matplotlib import colormaps

    figure = _figure(8, 8)
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
                column[1].scatter([], [], color=colour, s=24, label=name)
            below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
            column[1].legend(ncols=5 if max(map(len, kinds)) < 6 else 3, **below)
    _save(figure, path)


def _embedded(features: np.ndarray) -> np.ndarray | None:
    """Features `[n, width]` in the plane `[n, 2]`; None where they are too few or all alike."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    spread = features.std()
    # sklearn would divide by the spread, and crash on NaN.
    if len(features) < 5 or not np.isfinite(spread) or spread < 1e-9:
        return None
    start = "pca" if features.shape[1] > 1 else "random"
    tsne = TSNE(init=start, perplexity=min(30, len(features) / 4), max_iter=500, random_state=0)
    # One thread: its sums come in one order, and several wait for each other on a busy machine.
    with threadpool_limits(1):
        return tsne.fit_transform(features / spread)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # slow to import; and pyplot would keep global state

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", metadata={"Software": None})
    partial.replace(path)
