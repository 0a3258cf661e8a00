"""Lines of runs, and what is made of them: tables, sections of markdown pages, figures.

Intervals are Student's over seeds; where the predictions of every example are kept, and these are
the same examples for every seed, over seeds and examples (`metrics.crossed`). Differences are
paired by both. Of all differences in a table Holm's procedure at 5 % says which are bold.
"""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import numpy as np

from tljax import metrics
from tljax.report import figures

Column = tuple[str, Callable[[Any], str]]  # of a markdown table: its heading, and a line's cell
PALETTE, intervals = figures.PALETTE, figures.intervals


class Examples(dict[str, tuple[np.ndarray, np.ndarray, str]]):
    """Of a line: column -> the class that each example was given, its own, both `[n]`, and which
    examples these are, by their fingerprint."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Examples) or self.keys() != other.keys():
            return False
        pairs = ((self[name], other[name]) for name in self)
        return all(
            np.array_equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other


class Results(list[dict[str, Any]]):
    """Lines of a table of runs: what they are, their seed, and what they reached."""

    def where(self, **columns: Any) -> "Results":
        """The lines with these values."""
        items = columns.items()
        return Results(line for line in self if all(line.get(k) == v for k, v in items))

    def of(self, column: str) -> list[Any]:
        """The different values of a column, in order."""
        return list(dict.fromkeys(line.get(column) for line in self))

    def by(self, *columns: str) -> list["Results"]:
        """The lines of each combination of values, in order."""
        values = dict.fromkeys(tuple(line.get(name) for name in columns) for line in self)
        return [self.where(**dict(zip(columns, of, strict=True))) for of in values]

    def values(self, metric: str) -> list[Any]:
        """A metric by seed."""
        return [line.get(metric) for line in sorted(self, key=lambda line: line["seed"])]

    def at(self, column: str, names: Iterable[Any]) -> dict[Any, "Results"]:
        """The lines of some values of a column."""
        return {name: self.where(**{column: name}) for name in names}

    def by_seed(self, metric: str) -> dict[int, float]:
        """The mean over the lines of each seed."""
        seeds = sorted(self.of("seed"))
        return {s: float(np.mean(self.where(seed=s).values(metric))) for s in seeds}

    def cell(self, metric: str) -> str:
        """Mean and 95 % interval; a dash where there is none."""
        values = self.values(metric)
        return "–" if not values or None in values else str(self.interval(metric))

    def gain(self, metric: str, baseline: "Results", itself: str = "–") -> str:
        """The difference from a baseline over the seeds that both have; a dash where one lacks."""
        if self == baseline:
            return itself
        both = set(self.of("seed")) & set(baseline.of("seed"))
        ours, theirs = (
            Results(li for li in part if li["seed"] in both) for part in (self, baseline)
        )
        if not both or None in ours.values(metric):
            return "–"
        return difference(ours.interval(metric, theirs), len(ours))

    def interval(self, metric: str, baseline: "Results | None" = None) -> metrics.Interval:
        """The mean of a metric, or of its differences from a baseline's, with its interval."""
        sides = [self] if baseline is None else [self, baseline]
        values = [np.asarray(side.values(metric), np.float64) for side in sides]
        kept = [side._examples(metric) for side in sides]
        alike = all(each is not None and _same(each, kept[0]) for each in kept)
        if alike and len({len(each) for each in values}) == 1:
            right, classes, balanced = zip(*kept, strict=True)  # type: ignore[arg-type]
            of_each = right[0] - (right[1] if baseline is not None else 0.0)
            return metrics.crossed(of_each, classes[0] if balanced[0] else None)
        if baseline is None:
            return metrics.interval(values[0])
        return metrics.paired(*values)

    def _examples(self, metric: str) -> tuple[np.ndarray, np.ndarray, bool] | None:
        """What is right `[seeds, n]`, the classes `[n]`, and whether the metric is a mean over
        these; None where the examples are not the same for all, or not kept, or it is neither."""
        lines = sorted(self, key=lambda line: line["seed"])
        kept = [line.get("predictions", {}).get(metric) for line in lines]
        if not kept or None in kept or len(self.of("seed")) < len(self):
            return None
        _, classes, examples = kept[0]
        if not all(np.array_equal(true, classes) and of == examples for _, true, of in kept):
            return None
        right = np.stack([predicted == classes for predicted, *_ in kept]).astype(np.float64)
        by_class = np.mean([right[:, classes == c].mean(1) for c in np.unique(classes)], axis=0)
        for balanced, means in ((False, right.mean(1)), (True, by_class)):
            if np.allclose(means, self.values(metric), rtol=0, atol=1e-6):
                return right, classes, balanced
        return None

    def over(self, column: str, metric: str) -> dict[Any, list[Any]]:
        """Value of a column, in order -> a metric by seed."""
        return {x: self.where(**{column: x}).values(metric) for x in sorted(self.of(column))}

    def means(self, metric: str, *settings: str) -> dict[tuple, float]:
        """Values of the columns `settings` -> the mean; a failed run counts 0."""
        reached: dict[tuple, list[float]] = {}
        for line in self:
            key = tuple(line[name] for name in settings)
            reached.setdefault(key, []).append(line[metric] or 0.0)
        return {key: float(np.mean(values)) for key, values in reached.items()}

    def best(self, metric: str, *settings: str) -> tuple:
        """The settings of the highest mean, of several the first."""
        means = self.means(metric, *settings)
        return max(means, key=means.__getitem__)


def strongest(lines: Mapping[str, Results], metric: str, *settings: str) -> str:
    """The name of the lines whose best setting has the highest mean, of several the first."""
    worth = {
        name: max(each.means(metric, *settings).values(), default=-np.inf)
        for name, each in lines.items()
    }
    return max(worth, key=worth.__getitem__)


class Comparison(NamedTuple):
    """A method against a baseline, paired by seed."""

    question: str
    metric: str
    ours: str  # values of the column `method`
    baseline: str
    where: Mapping[str, Any] = {}  # the other columns of both
    why: str = ""  # in a sentence
    units: Callable[["Results", str], "Results"] | None = None
    """Of lines and a metric: a line each, in the place of seeds, for what the interval is over."""


def _same(one: Any, other: Any) -> bool:
    """Whether two sides are judged alike on the same examples."""
    return np.array_equal(one[1], other[1]) and one[2] == other[2]


def cell(values: Sequence[float]) -> str:
    """Mean and 95 % t interval over seeds."""
    return str(metrics.interval(values))


def gain(ours: Sequence[float], baseline: Sequence[float]) -> str:
    """The difference paired by seed, with its interval."""
    return difference(metrics.paired(ours, baseline), len(ours))


def difference(found: metrics.Interval, runs: int) -> str:
    """A difference as text, and behind it how likely one as large is by chance, for `settled`."""
    from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to import

    p = 1.0 if runs < 2 else float(not found.mean)
    if 0 < found.half_width < np.inf:
        quantile = stdtrit(runs - 1, 0.975)
        p = float(2 * stdtr(runs - 1, -abs(found.mean) / found.half_width * quantile))
    return f"{found.mean:+.3f} ± {found.half_width:.3f}⟨{p!r}⟩"


MARKED = re.compile(r"([+-][\d.]+ ± (?:[\d.]+|inf))⟨([^⟩]*)⟩")


def settled(text: str) -> str:
    """A text whose differences are bold where Holm's procedure, over all of them, leaves them."""
    p = [float(found[1]) for found in MARKED.findall(text)]
    if not p:
        return text
    left = iter(metrics.holm(p) < 0.05)
    return MARKED.sub(lambda found: f"**{found[1]}**" if next(left) else found[1], text)


def text(heading: str, column: str, form: str = "{}") -> Column:
    """What all lines of a row say of themselves, in a form."""
    return heading, lambda lines: form.format(lines[0][column]) if lines else "–"


def mean(heading: str, metric: str) -> Column:
    return heading, lambda lines: lines.cell(metric)


def gained(heading: str, metric: str, baseline: Results, itself: str = "–") -> Column:
    return heading, lambda lines: lines.gain(metric, baseline, itself)


def lowest(metric: str) -> Column:
    return "lowest seed", lambda lines: f"{min(lines.values(metric)):.3f}"


def seconds(form: str = "{:.1f}", of: Any = np.mean, heading: str = "seconds") -> Column:
    return heading, lambda lines: form.format(of(lines.values("seconds")))


def named(heading: str, columns: Iterable[Column], lines: Mapping[Any, Any]) -> str:
    """A table of lines by their names, which stand in its first column."""
    below = [(title, lambda name, of=of: of(lines[name])) for title, of in columns]
    return table([(heading, str), *below], lines)


def table(columns: Sequence[Column], lines: Iterable[Any]) -> str:
    """A markdown table of columns: a heading, and what stands below it, made from each line."""
    cells = [[write(line) for _, write in columns] for line in lines]
    rows = [[heading for heading, _ in columns], ["---"] * len(columns), *cells]
    return settled("\n".join("| " + " | ".join(row) + " |" for row in rows))


def compared(comparisons: Sequence[tuple[Comparison, Results, str]]) -> str:
    """The table of comparisons: each with the lines it reads, and how its question is shown.

    A claim holds if Holm's procedure over this table leaves its difference, and that is positive.
    """

    def sides(asked: Comparison, results: Results) -> list[Results]:
        lines = results.where(**asked.where).at("method", (asked.ours, asked.baseline))
        units = asked.units or by_seed
        ours, baseline = (units(runs, asked.metric) for runs in lines.values())
        if len(baseline) == 1:  # without randomness: the same for every seed
            baseline = Results({**baseline[0], "seed": seed} for seed in ours.of("seed"))
        seeds = {*ours.of("seed")} & {*baseline.of("seed")}
        return [Results(li for li in side if li["seed"] in seeds) for side in (ours, baseline)]

    def by_seed(runs: Results, metric: str) -> Results:
        whole = len(runs.of("seed")) == len(runs)
        means = runs.by_seed(metric).items()
        return runs if whole else Results({"seed": seed, metric: value} for seed, value in means)

    def column(heading: str, write: Callable[[Results, Results, str], str]) -> Column:
        return heading, lambda found: write(*sides(*found[:2]), found[0].metric)

    columns = [column("baseline", lambda _, base, metric: base.cell(metric))]
    columns += [column("method", lambda ours, _, metric: ours.cell(metric))]
    columns += [column("difference", lambda ours, base, metric: ours.gain(metric, base))]
    columns += [column("seeds", lambda ours, *_: str(len(ours))), ("holds", lambda _: HOLDS)]
    columns += [("why", lambda found: found[0].why)]
    head, rule, *lines = table([("claim", lambda found: found[2]), *columns], comparisons).split(
        "\n"
    )
    verdicts = {"**+": "yes", "**-": "no, the reverse"}
    for i, line in enumerate(lines):
        found = next((verdict for mark, verdict in verdicts.items() if mark in line), "not shown")
        lines[i] = line.replace(HOLDS, found)
    return "\n".join([head, rule, *lines])


HOLDS = "⟨holds⟩"


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(scores, accuracies).statistic)


def dots(form: str, metric: str, xlabel: str) -> Callable[[Results, Path], None]:
    """A figure of all seeds of each combination of the columns that a label's form names."""
    columns = [name for _, name, _, _ in Formatter().parse(form) if name]

    def draw(results: Results, path: Path) -> None:
        groups = results.by(*columns)
        rows = [(form.format(**runs[0]), [*runs.by_seed(metric).values()]) for runs in groups]
        once = all(len(runs) == len(runs.of("seed")) for runs in groups)
        found = [runs.interval(metric) for runs in groups] if once else ()  # as in the tables
        intervals(rows, path, xlabel, found)

    return draw


def curves(panels: Mapping[str, Mapping[str, Any]], path: Path, xlabel: str) -> None:
    """Every seed, the means and their 95 % intervals: panel -> line -> place -> a value a seed."""
    from matplotlib.figure import Figure  # slow to import; and pyplot would keep global state

    figure = Figure(figsize=(2 + 4.5 * len(panels), 4.5), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    xs = sorted({x for lines in panels.values() for line in lines.values() for x in line})
    seeds: list[float] = []
    for panel, (title, lines) in zip(axes, panels.items(), strict=True):
        for i, (label, line) in enumerate(lines.items()):
            means, halves = zip(*map(metrics.interval, line.values()), strict=True)
            # Side by side, so that the intervals can be told apart.
            places = [xs.index(x) + 0.04 * (i - len(lines) / 2) for x in line]
            look = dict(marker="o", ms=4, capsize=2, color=PALETTE[i % len(PALETTE)], label=label)
            bars = halves if np.isfinite(halves).all() else None
            panel.errorbar(places, means, bars, ls="--" if i >= len(PALETTE) else "-", **look)
            spot = dict(ms=3, mew=0, alpha=0.4, color=look["color"])
            for place, values in zip(places, line.values(), strict=True):
                panel.plot([place + 0.02] * len(values), values, "o", **spot)
        panel.set(title=title, xlabel=xlabel)
        panel.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="0.92")
        seeds += [value for line in lines.values() for values in line.values() for value in values]
    # Where some seeds are lost an interval is wider than the axis.
    axes[0].set(ylabel="accuracy: mean, 95 % interval, seeds")
    axes[0].set_ylim(min(seeds) - 0.03, max(seeds) + 0.03)
    below = dict(loc="outside lower center", ncols=3, frameon=False)
    figure.legend(*axes[0].get_legend_handles_labels(), **below)
    figure.savefig(path, format="png", metadata={"Software": None})


def save(results: Results, path: Path) -> None:
    """Writes lines as CSV, a column a field, and their examples beside it."""
    names = dict.fromkeys(key for line in results for key in line if key != "predictions")
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(names), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results)
    sets: dict[Any, tuple[np.ndarray, list[int], list[np.ndarray]]] = {}
    for number, line in enumerate(results):
        for column, (predicted, true, examples) in line.get("predictions", {}).items():
            key = column, true.tobytes(), examples
            _, lines, all_predicted = sets.setdefault(key, (true, [], []))
            lines.append(number)
            all_predicted.append(predicted)
    arrays = {}
    for i, ((column, _, examples), (true, lines, predicted)) in enumerate(sets.items()):
        arrays[f"{column}/{i}/examples"] = np.array(examples)
        found = {"true": true, "lines": np.array(lines), "predicted": np.stack(predicted)}
        for name, array in found.items():
            arrays[f"{column}/{i}/{name}"] = array.astype(np.min_scalar_type(int(array.max())))
    if arrays:
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
    else:
        path.with_suffix(".npz").unlink(missing_ok=True)


def read(path: Path) -> Results:
    """The lines of a CSV file, its numbers as numbers, its empty cells as None; their examples."""

    def value(text: str) -> Any:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                pass
        return text or None

    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    results = Results({key: value(text) for key, text in line.items()} for line in lines)
    kept = path.with_suffix(".npz")
    arrays = dict(np.load(kept)) if kept.exists() else {}
    for place in [name.removesuffix("/true") for name in arrays if name.endswith("/true")]:
        true, numbers, predicted = (arrays[f"{place}/{n}"] for n in ("true", "lines", "predicted"))
        if max(numbers) >= len(results):
            raise SystemExit(f"{kept} is of another table than {path.name}: run the script again")
        for number, each in zip(numbers, predicted, strict=True):
            found = results[number].setdefault("predictions", Examples())
            found[place.partition("/")[0]] = (each, true, str(arrays[f"{place}/examples"]))
    return results


def write(section: str, name: str, path: Path) -> None:
    """Puts a section between the markers of `name` in a markdown file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    if not rest:
        raise SystemExit(f"{path} has no line {begin}")
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")
