"""Lines of runs, and what is made of them: tables, sections of markdown pages, figures."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import numpy as np

from tljax import metrics
from tljax.report import figures

Column = tuple[str, Callable[[Any], str]]  # of a markdown table: its heading, and a line's cell
PALETTE, intervals = figures.PALETTE, figures.intervals


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
        """Mean and 95 % t interval over seeds; a dash where there is none."""
        values = self.values(metric)
        return "–" if not values or None in values else cell(values)

    def gain(self, metric: str, baseline: "Results", itself: str = "–") -> str:
        """The difference from a baseline, paired by seed; a dash where one lacks."""
        if self == baseline:
            return itself
        ours, theirs = self.values(metric), baseline.values(metric)
        return "–" if None in ours else gain(ours, theirs)

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


class Comparison(NamedTuple):
    """A method against a baseline, paired by seed."""

    question: str
    metric: str
    ours: str  # values of the column `method`
    baseline: str
    where: Mapping[str, Any] = {}  # the other columns of both


def cell(values: Sequence[float]) -> str:
    """Mean and 95 % t interval over seeds."""
    return str(metrics.interval(values))


def gain(ours: Sequence[float], baseline: Sequence[float]) -> str:
    """The difference paired by seed, with its interval; bold where the interval excludes 0."""
    difference = metrics.paired(ours, baseline)
    text = f"{difference.mean:+.3f} ± {difference.half_width:.3f}"
    return f"**{text}**" if abs(difference.mean) > difference.half_width else text


def text(heading: str, column: str, form: str = "{}") -> Column:
    """What all lines of a row say of themselves, in a form."""
    return heading, lambda lines: form.format(lines[0][column])


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
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def compared(comparisons: Sequence[tuple[Comparison, Results, str]]) -> str:
    """The table of comparisons: each with the lines it reads, and how its question is shown."""

    def pair(asked: Comparison, results: Results) -> list[list[float]]:
        lines = results.where(**asked.where).at("method", (asked.ours, asked.baseline))
        ours, baseline = (runs.by_seed(asked.metric) for runs in lines.values())
        if len(baseline) == 1:  # without randomness: the same for every seed
            baseline = dict.fromkeys(ours, next(iter(baseline.values())))
        seeds = sorted(ours.keys() & baseline.keys())
        return [[values[seed] for seed in seeds] for values in (ours, baseline)]

    columns = [("baseline", lambda pair: cell(pair[1])), ("method", lambda pair: cell(pair[0]))]
    columns += [("difference", lambda pair: gain(*pair)), ("seeds", lambda pair: str(len(pair[0])))]
    return named("question", columns, {shown: pair(*line) for *line, shown in comparisons})


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(scores, accuracies).statistic)


def dots(form: str, metric: str, xlabel: str) -> Callable[[Results, Path], None]:
    """A figure of all seeds of each combination of the columns that a label's form names."""
    columns = [name for _, name, _, _ in Formatter().parse(form) if name]

    def draw(results: Results, path: Path) -> None:
        rows = {form.format(**runs[0]): runs.by_seed(metric) for runs in results.by(*columns)}
        intervals([(name, [*values.values()]) for name, values in rows.items()], path, xlabel)

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
    """Writes lines as CSV, a column a field."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in results for key in line)))
        writer.writeheader()
        writer.writerows(results)


def read(path: Path) -> Results:
    """The lines of a CSV file, its numbers as numbers, its empty cells as None."""

    def value(text: str) -> Any:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                pass
        return text or None

    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    return Results({key: value(text) for key, text in line.items()} for line in lines)


def write(section: str, name: str, path: Path) -> None:
    """Puts a section between the markers of `name` in a markdown file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    if not rest:
        raise SystemExit(f"{path} has no line {begin}")
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")
