"""Unsupervised domain adaptation, with hyperparameters that no target label has chosen.

python -m experiments.adaptation.run [--tune | --together] [--seeds 10] [--only method=MCC]
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.mnist_m.run import SCALES, Method, apart, augmented, per_domain, pseudo_labels
from experiments.report import Column, Comparison, Results
from tljax.configs import tasks
from tljax.metrics import validators

HERE = Path(__file__).parent
SEEDS = {"digits": range(10), "garments": range(5), "together": range(5)}
TUNED_ON = range(100, 105)  # no result uses them
STEPS = 800  # of every run here
AVERAGE = 0.994  # about a fifth of a run, as in cdan.py
COLLAPSED = 0.5  # far below source only

RATES = ("optimizer.learning_rate", (0.01, 0.02, 0.05, 0.1, 0.2))
KERNELS = "terms.discrepancy.weight"


def held(config: Any) -> None:
    """A discriminator that is kept from winning: see experiments/stability."""
    config.terms.domain.smoothing, config.network.heads.domain.spectral = 0.1, True


def target() -> dict[str, Any]:
    """The unlabelled stream of the shipped configs."""
    return frame.shipped("dann").streams.target.to_dict()


# The middle value is the paper's or, of CORAL, whose loss is divided by 4·D², one that makes the
# loss as large as the label's; MK-MMD's and MCC's were moved up when their best was the highest.
METHODS = {
    "source only": Method("source_only", *RATES, simple=True),
    "source only + augmentation": Method("source_only", *RATES, edit=augmented, simple=True),
    "per-domain normalisation": Method(
        "source_only", *RATES, edit=lambda config: per_domain(config, target()), simple=True
    ),
    "pseudo-labels": Method(  # of the same digit over another photograph
        "source_only",
        "terms.pseudo.threshold",
        (0.5, 0.8, 0.9, 0.95, 0.99),
        edit=lambda config: pseudo_labels(config, target(), target()["transforms"]),
    ),
    "DANN": Method("dann", *SCALES),
    "DANN, held": Method("dann", *SCALES, edit=held),
    "CDAN+E": Method("cdan", *SCALES),
    "CDAN+E, held": Method("cdan", *SCALES, edit=held),
    "MK-MMD": Method("mk_mmd", KERNELS, (1.0, 3.0, 10.0, 30.0, 100.0)),
    "MK-MMD + augmentation": Method("mk_mmd", KERNELS, (0.1, 0.3, 1.0, 3.0, 10.0), edit=augmented),
    "CORAL": Method("coral", "terms.covariance.weight", (100.0, 300.0, 1000.0, 3000.0, 10_000.0)),
    "MCC": Method("mcc", "terms.confusion.weight", (1.0, 3.0, 10.0, 30.0, 100.0)),
    "MDD": Method("mdd", "terms.disparity.scale", (0.01, 0.03, 0.1, 0.3, 1.0)),
}
SIMPLE = [name for name, method in METHODS.items() if method.simple]
GARMENTS = ("source only", "source only + augmentation", "DANN, held", "MK-MMD", "MCC")
TASKS = {"digits": tuple(METHODS), "garments": GARMENTS}

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
    "fine-tuning + augmentation": ("few",),
    "all + augmentation": ("few", "source", "near", "domain", "segments"),
}
TOGETHER_RATES = (0.002, 0.005, 0.01, 0.02, 0.05)
FLOWS = {"domain": "target", "few": "few", "source": "source"}  # term -> the stream it brings


def garments(config: Any) -> None:
    """The garments of dann_fashion.py at 16×16 in place of digits."""
    fashion = frame.shipped("dann_fashion")
    config.streams = {name: fashion.streams[name] for name in config.streams}
    config.evaluate = fashion.evaluate
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields["size"] = 16


def evaluate_for_validators(config: Any) -> None:
    """Adds what validators read: source examples, held-out ones, and the unlabelled target."""
    photographs = dict(tasks.COLOUR_DIGITS, transforms=tasks.PHOTOGRAPHS)
    config.evaluate.source_train = dict(tasks.COLOUR_DIGITS, split="train[:600]")
    config.evaluate.source_validation = dict(tasks.COLOUR_DIGITS, split="train[1200:1400]")
    config.evaluate.unlabelled = dict(photographs, split="train[600:1200]", labelled=False)
    config.evaluate.oracle = dict(photographs, split="train[1200:1400]")  # the oracle's alone
    if config.get("statistics") == "separate":
        for evaluation in config.evaluate.values():
            of = "target" if evaluation.get("transforms") else "source"
            evaluation.statistics = of


def scores(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The scores of the validators that compare evaluations, from a run's outputs; and whether it
    calls all of the target the same."""
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
    lost = float(bool(validators.collapse(target.logits)))
    return dict(zip(COMPARING, reached, strict=True)) | {"lost": lost}


def point(name: str, value: float, edits: Sequence[Callable[[Any], None]], **columns: Any) -> Row:
    """The shipped config of a method at a point of its grid."""
    method = METHODS[name]

    def edit(config: Any, run: Run) -> None:
        for change in edits:
            change(config)

    budget = {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": STEPS}
    overrides = {**budget, "average": AVERAGE, method.knob: value}
    return Row(method.config, overrides, edit, dict(columns, method=name, value=value))


def grid() -> dict[str, Row]:
    """Every method at every point of its grid."""
    return {
        f"{name}-{value:g}": point(name, value, (method.edit, evaluate_for_validators))._replace(
            measure=scores, measured=("source_train", "source_validation", "unlabelled")
        )
        for name, method in METHODS.items()
        for value in method.values
    }


def chosen(tuned: Results, validator: str) -> dict[str, float]:
    """method -> the value whose mean score over the seeds this validator finds best; one of which a
    run is not finite or calls all of the target the same is refused where another is left."""
    means, sign = ended(tuned).means(validator, "method", "value"), VALIDATORS[validator]
    lost = {(line["method"], line["value"]) for line in tuned if line.get("lost", 0) != 0}
    points = sorted(means, key=lambda point: (point in lost, -sign * means[point]))
    return {m: next(v for name, v in points if name == m) for m in tuned.of("method")}


def ended(tuned: Results) -> Results:
    """The runs that stayed finite."""
    return Results(line for line in tuned if line.get("lost", 0) is not None)


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
        if name.endswith("+ augmentation"):
            augmented(config)
        frame.judge_at_the_end(config, config.combined.steps)

    overrides = {"combined.optimizer.learning_rate": rate, "evaluate.target.split": split}
    columns = dict(task="together", method=name, value=rate)
    return Row("combination", overrides, edit, columns)


def candidates() -> dict[str, Row]:
    """Every variant of the combination at every rate, judged on the validation digits."""
    every = product(VARIANTS, TOGETHER_RATES)
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
    values, found = chosen(TUNING.read(), MAIN), {}
    for task, name in [(task, name) for task, names in TASKS.items() for name in names]:
        edits = (*([garments] if task == "garments" else []), METHODS[name].edit)
        row = point(name, values[name], edits, task=task)._replace(seeds=SEEDS[task])
        found[f"{task}-{name}"] = row._replace(measure=apart, measured=("source", "target"))
    return found | (combined(together) if (together := TOGETHER.read()) else {})


SECONDS = report.seconds("{:.0f}", np.median, "seconds a run")
LAST = [report.mean("source accuracy", "source"), SECONDS]


def table(results: Results) -> str:
    """A row a method: what was chosen, its accuracies, its difference from simple ones by seed."""

    def value(lines: Results) -> str:
        field = METHODS[lines[0]["method"]].knob.rpartition(".")[2].replace("_", " ")
        return f"{field} {lines[0]['value']:g}"

    def link(lines: Results) -> str:
        name = lines[0]["method"]
        return f"[{name}](configs/{METHODS[name].config}.py)"

    def lost(lines: Results) -> str:
        return f"{sum(value < COLLAPSED for value in lines.values('target'))} of {len(lines)}"

    columns: list[Column] = [("method", link), ("chosen", value)]
    columns += [report.mean("target accuracy", "target")]
    for name in dict.fromkeys(("source only", BEST)):
        columns += [report.gained(f"− {name}", "target", results.where(method=name))]
    columns += [report.lowest("target"), (f"below {COLLAPSED}", lost)]
    columns += [report.mean("A-distance", "a_distance"), *LAST]
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
    finite = ended(tuned)
    test = tuned.means("test", "method", "value")
    choices = {name: chosen(tuned, name) for name in VALIDATORS}
    reached = {name: [test[p] for p in choice.items()] for name, choice in choices.items()}

    def label(name: str) -> str:
        text = "*oracle: target labels*" if name == "oracle" else name.replace("_", " ")
        return text + (" (the one used)" if name == MAIN else "")

    def among_all(name: str) -> str:
        means = finite.means(name, "method", "value")
        method, value = max(means, key=lambda point: VALIDATORS[name] * means[point])
        return f"{test[method, value]:.3f} ({method} {value:g})"

    def correlation(name: str) -> str:
        scores = [VALIDATORS[name] * line[name] for line in finite]
        return f"{report.rank_correlation(scores, [line['test'] for line in finite]):+.2f}"

    def below_oracle(name: str) -> str:
        return f"{np.mean(reached[name]) - np.mean(reached['oracle']):+.3f}"

    def worst(name: str) -> str:
        gaps = np.subtract(reached[name], reached["oracle"])
        at = int(gaps.argmin())
        return f"{gaps[at]:+.3f} ({list(choices[name])[at]})"

    columns = [("chosen by", label), ("mean − oracle", below_oracle), ("at worst", worst)]
    columns += [("among all methods", among_all), ("rank correlation", correlation)]
    return report.table(columns, VALIDATORS)


MIXED = f"""[combination](configs/combination.py) against its parts: a source model is tuned \
with two labelled target digits a class and 600 unlabelled ones, {len(SEEDS["together"])} seeds; \
each variant's rate is from five, by labelled target digits that no result uses, over five seeds."""


def tables(results: Results) -> dict[str, Any]:
    digits, garments, mixed = results.at("task", SEEDS).values()
    return {
        **dict(selection=f"{TUNED_ON[0]} to {TUNED_ON[-1]}", steps=STEPS),
        "digits": table(digits),
        "validators": validators_table(TUNING.read()),
        "garments": table(garments),
        "garment_seeds": len(SEEDS["garments"]),
        "together": f"{MIXED}\n\n{combined_table(mixed)}" if mixed else "",
    }


READS = {"target": "target/accuracy", "source": "source/accuracy"}
JUDGED = {name: name if name in COMPARING else f"unlabelled/{name}" for name in VALIDATORS}
JUDGED |= {"oracle": "oracle/accuracy", "test": "target/accuracy", "lost": "lost"}
TUNING = Experiment(HERE, TUNED_ON, JUDGED, grid, file="tuning.csv")
TOGETHER = Experiment(HERE, TUNED_ON, READS, candidates, file="together.csv")
BEST, DIGITS = strongest(TUNING.read()), dict(task="digits")
SHORT = "the same in 800 steps, chosen without target labels"
WHY = {
    "pseudo-labels": "a digit over two photographs tells the network what to look away from",
    "MK-MMD": "the shift is one of colours and clutter, which augmentation imitates unseen",
    "MK-MMD + augmentation": "what augmentation leaves of the shift is little",
    "DANN": "the validator prefers a λ of next to nothing",
}
COMPARED = [
    Comparison(f"{SHORT}: {name} against {BEST}", "target", name, BEST, DIGITS, why)
    for name, why in WHY.items()
]
FIGURE = report.dots("{task}: {method}", "target", "target accuracy")
EXPERIMENT = Experiment(
    HERE, SEEDS["digits"], {**READS, "a_distance": "a_distance"}, rows, tables, FIGURE, COMPARED
)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING, together=TOGETHER)
