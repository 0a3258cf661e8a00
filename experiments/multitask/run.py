"""What does a second task, or a second kind of input, give few labelled digits?

    python experiments/multitask/run.py [--seeds 10] [--workdir runs/multitask]

Runs every method over the seeds at the rates of tuning.csv, prints the tables, and writes them into
RESULTS.md with the figure beside this file. Started again, it goes on where it was.
"""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402
from tljax import metrics, plots  # noqa: E402
from tljax.data import sources  # noqa: E402

HERE = Path(__file__).parent
PER_CLASS = (2, 5)
BALANCED = ("uncertainty", "dwa", "pcgrad", "mgda", "cagrad", "gradnorm", "famo")
CONTROLS = ("wrong bits", "random bits")  # of another digit, the same for all; of any image
BITS = ("digits alone", "bits alone", "sum", *BALANCED, *CONTROLS)
STEMS = ("tinted alone", "own stems", "grey alone")
SETTINGS = {"multitask_digits": BITS, "multitask_stems": STEMS}
SINGLE = {"multitask_digits": "digits alone", "multitask_stems": "tinted alone"}
RUNS = tuple(
    (setting, method, n)
    for setting, methods in SETTINGS.items()
    for method in methods
    for n in ((0,) if method in ("bits alone", "grey alone") else PER_CLASS)
)
"""(setting, method, labels a class); 0 where a method reads no few-label digits."""


def configured(
    setting: str, method: str, per_class: int, seed: int, rate: float, folder: Path | None = None
):
    """The shipped config of a setting as a method has it; `folder` is for what it needs on disk."""
    config = importlib.import_module(f"configs.{setting}").get_config()
    config.seed = seed
    config.optimizer.learning_rate = rate
    config.evaluate_every = config.checkpoint_every = config.steps
    if per_class:
        config.streams.target.update(per_class=per_class, batch=10 * per_class)
    if setting == "multitask_digits":
        if method == "digits alone":
            del config.terms.segments, config.evaluate.segments
            config.flow = ("target",)
        elif method == "bits alone":
            del config.terms.label, config.evaluate.target
            config.flow = ("source",)
        elif method in BALANCED:
            config.balance.name = method
        elif method == "wrong bits":
            config.tables.segments.permute = seed
        elif method == "random bits":
            assert folder
            data = shuffled(seed, folder / f"shuffled-{seed}.npz")
            config.streams.source.update(data=data, split="train")
    elif method == "tinted alone":
        del config.terms.grey, config.evaluate.source
        config.flow = ("target",)
    elif method == "grey alone":
        # The colour is taken out by hand, so that no tinted digit is needed to train.
        config.evaluate.target.update(
            channels=3,
            stem="grey",
            transforms=(*config.evaluate.target.transforms, dict(name="grey")),
        )
        del config.terms.label
        config.flow = ("source",)
    return config


def shuffled(seed: int, path: Path) -> str:
    """The digits of the second task, each with the label of any other, as a source."""
    table = sources.load("digits", "train[:800]")
    assert table.labels is not None
    labels = np.random.default_rng(seed).permutation(table.labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image=table.take(np.arange(len(table))).images, label=labels)
    return f"npz:{path.resolve()}"


def tuned() -> dict[tuple[str, str], float]:
    """(setting, method) -> the rate of the highest mean in tuning.csv; of several the lowest."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    with open(HERE / "tuning.csv", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["setting"], row["method"])
            found = (float(row["mean"]), -float(row["learning_rate"]))
            best[key] = max(best.get(key, found), found)
    return {key: -rate for key, (_, rate) in best.items()}


def collect(seeds: int, workdir: Path, shrink=lambda config: None) -> list[report.Row]:
    """A row a run; finished runs are only read."""
    rates, rows = tuned(), []
    for setting, method, per_class in RUNS:
        for seed in range(seeds):
            rate = rates[setting, method]
            config = configured(setting, method, per_class, seed, rate, workdir)
            name = f"{setting}-{method.replace(' ', '_')}-{per_class}-{seed}"
            judged = report.run(config, workdir / name, shrink)
            other = judged.get("segments", judged.get("source"))
            rows.append(
                dict(
                    setting=setting,
                    method=method,
                    per_class=per_class,
                    seed=seed,
                    learning_rate=rate,
                    target=judged["target"]["accuracy"] if "target" in judged else None,
                    other=other["accuracy"] if other else None,
                    seconds=judged["seconds"],
                )
            )
        print(f"{setting}, {method}, {per_class} a class: done", flush=True)
    return rows


def table(rows: list[report.Row]) -> str:
    """The markdown of RESULTS.md."""
    seeds = len({row["seed"] for row in rows})
    parts = [
        f"Test accuracy, means over {seeds} seeds with 95 % t intervals; differences are paired by "
        "seed, bold where the interval excludes 0. Every method's rate was chosen from the same "
        "three at two labels a class, on other seeds and on validation digits; all runs are judged "
        "at their last step. Seconds: the fastest run, of a machine that others used."
    ]
    for setting, per_class in ((s, n) for s in SETTINGS for n in PER_CLASS):
        parts += [_title(setting, per_class), _table(rows, setting, per_class)]
    return "\n\n".join(parts)


def _title(setting: str, per_class: int) -> str:
    bits = "the seven-segment bits of 800 other digits"
    inputs = "800 labelled grey digits, a stem for each"
    if setting == "multitask_digits":
        return f"**{per_class} labels a class, and {bits}**"
    return f"**{per_class} labels a class of three-channel tinted digits, and {inputs}**"


def _table(rows: list[report.Row], setting: str, per_class: int) -> str:
    bits = setting == "multitask_digits"
    single = SINGLE[setting]
    base = report.values(rows, "target", setting=setting, per_class=per_class, method=single)
    alone = report.values(rows, "other", setting=setting, method="bits alone") if bits else []
    lines = []
    for method in SETTINGS[setting]:
        n = per_class if (setting, method, per_class) in RUNS else 0
        own = dict(setting=setting, method=method, per_class=n)
        target, other = (report.values(rows, name, **own) for name in ("target", "other"))
        if not target:
            continue
        # The controls' accuracy is that on bits of their own.
        delta = "–"
        if bits and None not in target + other and method not in CONTROLS:
            pairs = zip(target, other, base, alone, strict=True)
            delta = report.cell([metrics.delta_p((t, o), (b, a)) for t, o, b, a in pairs])
        [rate] = {row["learning_rate"] for row in rows if _is(row, own)}
        lines.append(
            [
                method,
                _cell(target),
                "–" if method == single or None in target else report.gain(target, base),
                _cell(other),
                *([delta] if bits else []),
                f"{rate:g}",
                f"{min(report.values(rows, 'seconds', **own)):.1f}",
            ]
        )
    columns = ["method", "few-label digits", f"gain over {single}"]
    columns += ["bits", "Δp"] if bits else ["grey digits"]
    return report.table([*columns, "rate", "seconds"], lines)


def _is(row: report.Row, settings: dict) -> bool:
    return all(row[key] == value for key, value in settings.items())


def _cell(values: list) -> str:
    return "–" if None in values else report.cell(values)


def draw(rows: list[report.Row], path: Path) -> None:
    """The gain of every method over the single task, at 2 labels a class and at 5."""
    shown = []
    for setting, per_class in ((s, n) for s in SETTINGS for n in PER_CLASS):
        own = dict(setting=setting, per_class=per_class)
        base = report.values(rows, "target", method=SINGLE[setting], **own)
        for method in SETTINGS[setting]:
            if (setting, method, per_class) not in RUNS or method == SINGLE[setting]:
                continue
            reached = report.values(rows, "target", method=method, **own)
            if not reached:
                continue
            gains = [a - b for a, b in zip(reached, base, strict=True)]
            shown.append((f"{method}, {per_class} a class", gains))
    plots.intervals(shown, path, "accuracy over that of the few-label digits alone, paired by seed")


def main() -> None:
    given = report.arguments(__doc__, "multitask", 10)
    rows = collect(given.seeds, given.workdir)
    section = table(rows)
    print(section)
    report.save(rows, HERE / "results.csv")
    draw(rows, HERE / "results.png")
    report.write(section, "multitask", ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()
