"""The figure of classes that are taken for others."""

from pathlib import Path

import numpy as np

from tljax.phase.scoring import Outputs, Split, confused, confusion
from tljax.report.canvas import NAMED, canvas, save, short

FITTING = 60  # and more than that no name each: the pairs that are confused most are drawn
PAIRS = 30  # of these, at most


def draw(split: Split, predicted: Outputs, path: Path) -> None:
    """The confusion matrix; of more classes than fit with their names, the most frequent mistakes.

    Args:
      split: whose classes' names are shown.
      predicted: its outputs, with their labels.
      path: of the PNG file.
    """
    classes = predicted.logits.shape[-1]
    if classes <= FITTING:
        _matrix(split, predicted, names(split, classes), path)
    else:
        _pairs(split, predicted, path)


def _matrix(split: Split, predicted: Outputs, shown: list[str], path: Path) -> None:
    """Counts as text, and the shares of each true class as colour."""
    counts, classes = confusion(predicted), len(shown)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.2 + 0.3 * classes, 12)
    figure = canvas(side + 0.8, side)
    axes = figure.subplots(subplot_kw=dict(xlabel="predicted class", ylabel="true class"))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8).outline.set_visible(False)
    look = dict(labels=[*map(short, shown)], fontsize=10 if classes <= NAMED else 7)
    axes.set_xticks(range(classes), **look, rotation=90 if max(map(len, shown)) > 2 else 0)
    axes.set_yticks(range(classes), **look)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for i, j in np.argwhere(counts) if classes <= NAMED else ():
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=9, color=colour)
    axes.set_title(f"{short(split.name)}: {np.trace(counts)} of {counts.sum()} correct")
    save(figure, path)


def _pairs(split: Split, predicted: Outputs, path: Path) -> None:
    """A bar for each pair of classes that are confused most."""
    pairs = confused(predicted, split.table.classes, PAIRS)
    right = int((predicted.logits.argmax(-1) == predicted.labels).sum())
    figure = canvas(7, 1.4 + 0.25 * max(len(pairs), 4))
    axes = figure.subplots(subplot_kw=dict(xlabel="examples"))
    axes.barh(range(len(pairs)), [count for *_, count in pairs], color="#0072B2", height=0.7)
    labels = [f"{short(true)} → {short(other)}" for true, other, _ in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.set(ylim=(max(len(pairs), 4) - 0.5, -0.5), xlim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    correct = f"{short(split.name)}: {right} of {len(predicted.features)} correct"
    axes.set_title(f"{correct}; true class → predicted class")
    save(figure, path)


def names(split: Split, classes: int) -> list[str]:
    """The names of a head's outputs; a number where the data gives none."""
    known = split.table.classes[:classes]
    return [*known, *map(str, range(len(known), classes))]
