"""Which layers are worth copying: the first ones for new classes, the last ones for new inputs?

    python experiments/which_layers/run.py [--seeds 10] [--workdir runs/which_layers]

Runs every variant with the rate that tune.py chose for it, prints the table, and writes it into
RESULTS.md with the figure beside this file. Started again, it goes on where it was.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from experiments.few_shot import run as few_shot  # noqa: E402
from tljax import metrics, plots  # noqa: E402

HERE = Path(__file__).parent
LAYERS = ("trunk/conv_0/**", "trunk/conv_1/**", "heads/label/dense_0/**", "heads/label/output/**")
PAIRS = ("new classes", "inverted ink")


class Variant(NamedTuple):
    """Which layers are copied, the others fresh; and which of them move."""

    copied: tuple[str, ...]
    moving: tuple[str, ...] = LAYERS


VARIANTS = {
    "nothing copied": Variant(()),
    **{f"first {n} copied": Variant(LAYERS[:n]) for n in (1, 2, 3)},
    **{f"last {n} copied": Variant(LAYERS[-n:]) for n in (1, 2, 3)},
    "all copied": Variant(LAYERS),
    "all copied, only the first moves": Variant(LAYERS, LAYERS[:1]),
    "all copied, only the last moves": Variant(LAYERS, LAYERS[-1:]),
}


def setup(pair: str) -> Any:
    """`configs/layer_transfer.py` for a pair of source and target."""
    config = few_shot.load("layer_transfer")
    if pair == "new classes":
        old, new = tuple(range(5)), tuple(range(5, 10))
        grey = config.streams.source.transforms
        config.streams.source.classes = old
        config.streams.target.update(classes=new, transforms=grey, batch=25)
        config.evaluate.target.update(classes=new, transforms=grey)
        for name in ("source", "source_before"):
            config.evaluate[name].classes = old
    return config


def source(pair: str, seed: int, workdir: Path, shrink: report.Shrink) -> Path:
    """Trains the source model of a pair and seed, and returns its workdir."""
    place = workdir / f"{pair}-source-{seed}".replace(" ", "_")
    few_shot.pretrain(setup(pair), seed, place, shrink)
    return place


def adapt(
    pair: str,
    name: str,
    rate: float,
    seed: int,
    workdir: Path,
    shrink: report.Shrink,
    split: str | None = None,
) -> report.Row:
    """One run of a variant."""
    config, variant = setup(pair), VARIANTS[name]
    copied = tuple((layer, "source") for layer in variant.copied)
    config.target.start = copied + (() if variant.copied == LAYERS else (("**", "fresh"),))
    moving = tuple((layer, 1.0) for layer in variant.moving)
    config.target.train = moving + (() if variant.moving == LAYERS else (("**", 0.0),))
    config.target.optimizer.learning_rate = rate
    if split:
        for each in config.evaluate.values():
            each.split = split
    before = workdir / f"{pair}-source-{seed}".replace(" ", "_")
    place = workdir / f"{pair}-{name}-{rate}-{seed}".replace(" ", "_").replace(",", "")
    judged = few_shot.transfer(config, seed, before, place, shrink)
    reached = dict(target=judged["target"]["accuracy"], seconds=judged["seconds"])
    return dict(pair=pair, variant=name, seed=seed, rate=rate, **reached)


def chosen() -> dict[tuple[str, str], float]:
    """(pair, variant) -> the rate of the highest validation accuracy; the smaller of equals."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    with open(HERE / "tuning.csv", newline="") as file:
        for row in csv.DictReader(file):
            key = row["pair"], row["variant"]
            found = float(row["target"]), -float(row["rate"])
            best[key] = max(best.get(key, found), found)
    return {key: -rate for key, (_, rate) in best.items()}


def collect(
    seeds: int, workdir: Path, shrink: report.Shrink = lambda config: None
) -> list[report.Row]:
    """A row for every pair, variant and seed; finished runs are only read."""
    rates, rows = chosen(), []
    for pair in PAIRS:
        for seed in range(seeds):
            source(pair, seed, workdir, shrink)
        for name in VARIANTS:
            new = [
                adapt(pair, name, rates[pair, name], seed, workdir, shrink) for seed in range(seeds)
            ]
            rows += new
            reached = report.cell([row["target"] for row in new])
            print(f"{pair:14} {name:34} {reached}", flush=True)
    return rows


def _target(rows: Sequence[report.Row], pair: str, variant: str) -> list[float]:
    return report.values(rows, "target", pair=pair, variant=variant)


def table(rows: Sequence[report.Row]) -> str:
    """The markdown of RESULTS.md."""
    rates = {(row["pair"], row["variant"]): row["rate"] for row in rows}
    lines = []
    for name in VARIANTS:
        cells = []
        for pair in PAIRS:
            reached = _target(rows, pair, name)
            base = _target(rows, pair, "nothing copied")
            gain = "" if name == "nothing copied" else report.gain(reached, base)
            cells += [report.cell(reached), gain, f"{rates[pair, name]:g}"]
        seconds = report.values(rows, "seconds", variant=name)
        lines.append([name, *cells, f"{metrics.interval(seconds).mean:.1f}"])
    columns = ["layers", *(c for pair in PAIRS for c in (pair, "− nothing copied", "rate"))]
    contests = [
        ("the first layer copied − the last layer copied", "first 1 copied", "last 1 copied"),
        ("the first two − the last two", "first 2 copied", "last 2 copied"),
        ("the first three − the last three", "first 3 copied", "last 3 copied"),
        ("only the first moves − only the last moves", *list(VARIANTS)[-2:]),
    ]
    duels = [
        [what, *(report.gain(_target(rows, pair, a), _target(rows, pair, b)) for pair in PAIRS)]
        for what, a, b in contests
    ]
    seeds = len(_target(rows, PAIRS[0], "nothing copied"))
    return "\n".join(
        [
            "Four layers (two convolutions, a dense layer, the output); what is not copied starts "
            "afresh, and all layers move unless said otherwise. New classes: grey digits 0–4, then "
            "5–9, judged among these five. Inverted ink: grey digits, then the same classes in "
            f"inverted ink. Five labels a class; target accuracy, means over {seeds} seeds with "
            "95 % t intervals, differences paired by seed, bold where the interval excludes 0; "
            "every variant's rate was chosen from the same four on other digits and seeds.",
            "",
            report.table([*columns, "seconds"], lines),
            "",
            report.table(["first or last", *PAIRS], duels),
            "",
            _said(rows),
        ]
    )


def _said(rows: Sequence[report.Row]) -> str:
    """What the data say of the rule, by the paired intervals alone."""
    texts = []
    for pair, rule in zip(PAIRS, ("first", "last"), strict=True):
        wins = {"first": 0, "last": 0}
        for n in (1, 2, 3):
            difference = metrics.paired(
                _target(rows, pair, f"first {n} copied"), _target(rows, pair, f"last {n} copied")
            )
            if abs(difference.mean) > difference.half_width:
                wins["first" if difference.mean > 0 else "last"] += 1
        other = {"first": "last", "last": "first"}[rule]
        agrees = "agree" if wins[rule] > wins[other] else "disagree"
        texts.append(
            f"{pair}: the rule says to copy the {rule} layers; of three comparisons the {rule} are "
            f"better in {wins[rule]}, the {other} in {wins[other]}: the data {agrees}."
        )
    return " ".join(text[0].upper() + text[1:] for text in texts)


def figure(rows: Sequence[report.Row], path: Path) -> None:
    """A panel a pair: target accuracy over the number of copied layers, from either end."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    panels = drawn.subplots(1, 2, sharey=True)
    for pair, axes in zip(PAIRS, panels, strict=True):
        for end, shift, colour in (("first", -0.04, 0), ("last", 0.04, 1)):
            names = ["nothing copied", *(f"{end} {n} copied" for n in (1, 2, 3)), "all copied"]
            each = [metrics.interval(_target(rows, pair, name)) for name in names]
            means, halves = zip(*each, strict=True)
            x = [n + shift for n in range(5)]
            look = dict(color=plots.PALETTE[colour], marker="o", ms=5, capsize=3)
            axes.errorbar(x, means, halves, label=f"the {end} n copied, all move", **look)
            only = metrics.interval(_target(rows, pair, f"all copied, only the {end} moves"))
            look |= dict(marker="D", ls="", mfc="white")
            axes.errorbar(4.5 + shift, *only, label=f"all copied, only the {end} moves", **look)
        axes.set(title=pair, xlabel="copied layers n, of four")
        axes.set_xticks([0, 1, 2, 3, 4, 4.5], ["0", "1", "2", "3", "4", "4*"])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
    panels[0].set_ylabel("target accuracy (4*: all copied, one moves)")
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    drawn.savefig(path, metadata={"Software": None})


def main() -> None:
    given = report.arguments(__doc__, "which_layers", 10)
    rows = collect(given.seeds, given.workdir)
    section = table(rows)
    print(section)
    report.save(rows, HERE / "results.csv")
    figure(rows, HERE / "results.png")
    report.write(section, "which_layers", ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()
