"""Unsupervised domain adaptation, with hyperparameters that no target label has chosen.

python -m experiments.adaptation.run [--tune | --together] [--seeds 10] [--workdir runs/…]
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.mnist_m.run import LOOKS
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.metrics import validators

HERE = Path(__file__).parent
SEEDS = {"digits": range(10), "garments": range(3), "together": range(5)}
TUNED_ON = (100, 102)  # no result uses them; a third did not fit into the budget
STEPS = 800  # of every run here, so that all of it fits into an hour of one core
AVERAGE = 0.994  # about a fifth of a run, as in dann.py
COLLAPSED = 0.5  # far below source only

AUGMENTED = "source_only + augmentation"  # that of experiments/mnist_m, not chosen on these digits
SIMPLE = ("source_only", AUGMENTED)  # they know nothing of the target
# What each method's grid varies: three points a factor of about three apart, the middle one the
# paper's or, for CORAL, whose loss is divided by 4·D², one that makes it as large as the label's.
GRID: dict[str, tuple[str, tuple[float, ...]]] = {
    "source_only": ("optimizer.learning_rate", (0.02, 0.05, 0.1)),
    AUGMENTED: ("optimizer.learning_rate", (0.02, 0.05, 0.1)),
    "dann": ("terms.domain.scale", (0.3, 1.0, 3.0)),
    "cdan": ("terms.domain.scale", (0.3, 1.0, 3.0)),
    "mk_mmd": ("terms.discrepancy.weight", (0.3, 1.0, 3.0)),
    "coral": ("terms.covariance.weight", (300.0, 1000.0, 3000.0)),
    "mcc": ("terms.confusion.weight", (0.3, 1.0, 3.0)),
    "mdd": ("terms.disparity.scale", (0.03, 0.1, 0.3)),
}
METHODS = {"digits": tuple(GRID), "garments": ("source_only", "dann", "mk_mmd", "mcc")}

MAIN = "information_maximisation"  # fixed before anything was trained
COMPARING = ("importance_weighted", "dev", "reverse_validation")  # they read several evaluations
VALIDATORS = {  # a column of tuning.csv -> 1 where higher is better, −1 where lower is
    **{"information_maximisation": 1, "entropy": -1, "soft_neighbourhood_density": 1},
    **dict(zip(COMPARING, (-1, -1, 1), strict=True)),
    "oracle": 1,
}

VARIANTS = {  # of the combination -> the terms of the combined phase that it keeps
    "fine-tuning": ("few",),
    "+ L2-SP": ("few", "near"),
    "+ DANN": ("few", "source", "domain"),
    "+ multitask": ("few", "source", "segments"),
    "all": ("few", "source", "near", "domain", "segments"),
}
RATES = (0.005, 0.02)  # of the combination
FLOWS = {"domain": "target", "few": "few", "source": "source"}  # term -> the stream it brings


def garments(config: Any, run: Run) -> None:
    """The garments of dann_fashion.py at 16×16 in place of digits."""
    fashion = frame.shipped("dann_fashion")
    config.streams = {name: fashion.streams[name] for name in config.streams}
    config.evaluate = fashion.evaluate
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 16


def evaluate_for_validators(config: Any, run: Run) -> None:
    """Adds what validators read: source examples, held-out ones, and the unlabelled target."""
    target = dict(tasks.COLOUR_DIGITS, transforms=tasks.PHOTOGRAPHS)
    config.evaluate.source_train = dict(tasks.COLOUR_DIGITS, split="train[:600]")
    config.evaluate.source_validation = dict(tasks.COLOUR_DIGITS, split="train[1200:1400]")
    config.evaluate.unlabelled = dict(target, split="train[600:1200]", labelled=False)
    config.evaluate.oracle = dict(target, split="train[1200:1400]")  # read by the oracle alone


def scores(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The scores of the validators that compare evaluations, from a run's outputs."""
    train, held, target = map(outputs.get, ("source_train", "source_validation", "unlabelled"))
    shifted = held.logits - held.logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(held.labels)), held.labels]
    weights = validators.density_ratio(train.features, target.features, held.features)
    pseudo, classes = target.logits.argmax(-1), train.logits.shape[-1]
    reverse = validators.reverse_validation(
        train.features, train.labels, target.features, pseudo, classes
    )
    weighted = validators.importance_weighted_validation(losses, weights)
    reached = (weighted, validators.dev(losses, weights), reverse)
    return dict(zip(COMPARING, reached, strict=True))


def point(method: str, value: float, change: Any, **columns: Any) -> Row:
    """The shipped config of a method at a point of its grid."""

    def edit(config: Any, run: Run) -> None:
        if change:
            change(config, run)
        if method == AUGMENTED:
            source = config.streams.source
            source.transforms = (*source.get("transforms", ()), *LOOKS["augmented"])

    budget = {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": STEPS}
    overrides = {**budget, "average": AVERAGE, GRID[method][0]: value}
    shipped = method.partition(" ")[0]
    return Row(shipped, overrides, edit, dict(columns, method=method, value=value))


def grid() -> dict[str, Row]:
    points = [(method, value) for method, (_, values) in GRID.items() for value in values]
    rows = {f"{method}-{v:g}": point(method, v, evaluate_for_validators) for method, v in points}
    return {name: row._replace(measure=scores) for name, row in rows.items()}


def chosen(tuned: Results, validator: str) -> dict[str, float]:
    """method -> the value whose mean score over the seeds this validator finds best."""
    means, sign = tuned.means(validator, "method", "value"), VALIDATORS[validator]
    points = sorted(means, key=lambda point: -sign * means[point])
    return {m: next(v for name, v in points if name == m) for m in tuned.of("method")}


def strongest(tuned: Results) -> str:
    """The simple method that the validator puts first."""
    return report.strongest(tuned.at("method", SIMPLE), MAIN, "value")


def pretrained() -> Row:
    """The first phase of combination.py alone; every variant of a seed starts from it."""

    def edit(config: Any, run: Run) -> None:
        config.phases = ("pretrain",)
        del config.combined, config.evaluate.segments
        frame.judge_at_the_end(config, config.pretrain.steps)

    return Row("combination", edit=edit, columns=dict(task="together", method="pretrained"))


def variant(name: str, rate: float, split: str) -> Row:
    """The second phase of combination.py with some of its terms, judged on target digits."""
    kept = VARIANTS[name]

    def edit(config: Any, run: Run) -> None:
        config.phases = ("combined",)
        del config.pretrain
        for term in [term for term in config.combined.terms if term not in kept]:
            del config.combined.terms[term]
        config.combined.flow = tuple(stream for term, stream in FLOWS.items() if term in kept)
        fresh = [(f"heads/{t}/**", "fresh") for t in ("domain", "segments") if t in kept]
        config.combined.start = (*fresh, ("**", run.origin("pretrained")))
        if "segments" not in kept:
            del config.evaluate.segments
        frame.judge_at_the_end(config, config.combined.steps)

    overrides = {"combined.optimizer.learning_rate": rate, "evaluate.target.split": split}
    columns = dict(task="together", method=name, value=rate)
    return Row("combination", overrides, edit, columns)


def candidates() -> dict[str, Row]:
    """Every variant of the combination at every rate, judged on the validation digits."""
    every = product(VARIANTS, RATES)
    rows = {f"{name}-{rate:g}": variant(name, rate, "train[1200:1400]") for name, rate in every}
    return {"pretrained": pretrained()} | rows


def combined(tuned: Results) -> dict[str, Row]:
    """Every variant of the combination at its best rate, judged on the test digits."""
    rows = {"pretrained": pretrained()}
    for name in VARIANTS:
        [rate] = tuned.where(method=name).best("target", "value")
        rows[f"together-{name}"] = variant(name, rate, "train[1400:]")
    return {name: row._replace(seeds=SEEDS["together"]) for name, row in rows.items()}


def rows() -> dict[str, Row]:
    """Every method at its chosen point; and the combination, once it has been tuned."""
    values = chosen(TUNING.read(), MAIN)
    edits = {"digits": None, "garments": garments}
    rows = {}
    for task, method in [(task, method) for task, names in METHODS.items() for method in names]:
        row = point(method, values[method], edits[task], task=task)
        rows[f"{task}-{method}"] = row._replace(seeds=SEEDS[task])
    return rows | (combined(TOGETHER.read()) if (HERE / TOGETHER.file).exists() else {})


SECONDS = report.seconds("{:.0f}", np.median, "seconds a run")
LAST = [report.mean("source accuracy", "source"), SECONDS]


def table(results: Results) -> str:
    """A row a method: what was chosen, its accuracies, its difference from source only by seed."""

    def value(lines: Results) -> str:
        field = GRID[lines[0]["method"]][0].rpartition(".")[2].replace("_", " ")
        return f"{field} {lines[0]['value']:g}"

    def link(lines: Results) -> str:
        name = lines[0]["method"]
        return f"[{name}](configs/{name.partition(' ')[0]}.py)"

    columns: list[Column] = [("method", link), ("chosen", value)]
    columns += [report.mean("target accuracy", "target")]
    for name in SIMPLE:
        if simple := results.where(method=name):
            columns += [report.gained(f"− {name.replace('_', ' ')}", "target", simple)]
    columns += [report.lowest("target"), *LAST]
    return report.table(columns, results.by("method"))


def combined_table(results: Results) -> str:
    """A row a variant, with its difference from fine-tuning and of `all` from it, by seed."""
    at = results.at("method", VARIANTS)
    columns = [report.text("rate", "value", "{:g}"), report.mean("target accuracy", "target")]
    columns += [report.gained("− fine-tuning", "target", at["fine-tuning"])]
    columns += [("all − this", lambda lines: at["all"].gain("target", lines)), *LAST]
    return report.named("terms", columns, at)


def validators_table(tuned: Results) -> str:
    """What each validator's choice within a method, and among all, reaches on the test digits."""
    test = tuned.means("test", "method", "value")
    choices = {name: chosen(tuned, name) for name in VALIDATORS}
    reached = {name: [test[p] for p in choice.items()] for name, choice in choices.items()}

    def within(method: str) -> Column:
        return method, lambda name: f"{test[method, choices[name][method]]:.3f}"

    def label(name: str) -> str:
        text = "*oracle: target labels*" if name == "oracle" else name.replace("_", " ")
        return text + (" (the one used)" if name == MAIN else "")

    def among_all(name: str) -> str:
        means = tuned.means(name, "method", "value")
        method, value = max(means, key=lambda point: VALIDATORS[name] * means[point])
        return f"{test[method, value]:.3f} ({method} {value:g})"

    def correlation(name: str) -> str:
        scores = [VALIDATORS[name] * line[name] for line in tuned]
        return f"{report.rank_correlation(scores, [line['test'] for line in tuned]):+.2f}"

    def below_oracle(name: str) -> str:
        return f"{np.mean(reached[name]) - np.mean(reached['oracle']):+.3f}"

    columns = [("chosen by", label), *map(within, tuned.of("method"))]
    columns += [("mean − oracle", below_oracle), ("among all methods", among_all)]
    columns += [("rank correlation", correlation)]
    return report.table(columns, VALIDATORS)


MIXED = f"""[combination](configs/combination.py) against its parts: a source model is tuned \
with two labelled target digits a class and 600 unlabelled ones, {len(SEEDS["together"])} seeds; \
each variant's rate is from the same two, by labelled target digits that no result uses."""


def tables(results: Results) -> dict[str, Any]:
    digits, garments, mixed = results.at("task", SEEDS).values()
    below = Results(line for line in digits if line["target"] < COLLAPSED)
    lost = [f"{lines[0]['method']} {len(lines)}" for lines in below.by("method")]
    return {
        **dict(selection=" and ".join(map(str, TUNED_ON)), steps=STEPS, collapsed=COLLAPSED),
        "digits": table(digits),
        "lost": ", ".join(lost) or "none",
        "validators": validators_table(TUNING.read()),
        "garments": table(garments),
        "garment_seeds": len(SEEDS["garments"]),
        "together": f"{MIXED}\n\n{combined_table(mixed)}" if mixed else "",
    }


READS = {"target": "target/accuracy", "source": "source/accuracy"}
JUDGED = {name: name if name in COMPARING else f"unlabelled/{name}" for name in VALIDATORS}
JUDGED |= {"oracle": "oracle/accuracy", "test": "target/accuracy"}
TUNING = Experiment(HERE, TUNED_ON, JUDGED, grid, file="tuning.csv")
TOGETHER = Experiment(HERE, (100, 101), READS, candidates, file="together.csv")
BEST = strongest(TUNING.read())
AGAINST, DIGITS = BEST.replace("_", " "), dict(task="digits")
IMITATED = "the shift is one of colours and clutter, which augmentation imitates unseen"
LOST = "the validator chose a λ at which the game is often lost"
SHORT = "the same in 800 steps, chosen without target labels: MK-MMD against"
COMPARED = [
    Comparison(f"{SHORT} {AGAINST}", "target", "mk_mmd", BEST, DIGITS, IMITATED),
    Comparison(f"the same: DANN against {AGAINST}", "target", "dann", BEST, DIGITS, LOST),
]
FIGURE = report.dots("{task}: {method}", "target", "target accuracy")
EXPERIMENT = Experiment(HERE, SEEDS["digits"], READS, rows, tables, FIGURE, COMPARED)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING, together=TOGETHER)
