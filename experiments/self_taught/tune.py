"""Chooses the settings of each method, on digits and seeds that no result uses.

    python -m experiments.self_taught.tune [--workdir runs/self_taught_tuning]

The criterion is the accuracy on `train[1200:1400]` with 1 and with 5 labels a class, averaged over
both and over seeds 100 and 101. The softmax regression has twelve penalties on pixels; on features
four, with each of the method's own numbers. Writes tuning.csv beside it.
"""

from collections.abc import Sequence

from experiments import frame
from experiments.frame import Collect, Row
from experiments.report import Results
from experiments.self_taught import run

SPLIT, SHOTS = "train[1200:1400]", (1, 5)
PENALTIES = (0.01, 0.1, 1.0, 10.0)
MANY = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
OWN = {
    "SimCLR": (0.5, 0.2, 1.0),
    "Barlow Twins": (5e-3, 2e-2, 5e-2),
    "VICReg": (1.0,),
    "denoising autoencoder": (0.3, 0.15, 0.5),
    "autoencoder": (1e-3, 3e-4, 3e-3),
}
RATES = (1e-3, 3e-3, 1e-2)  # from scratch
RIDGE = run.OTHERS[0]
TUNED = (1e-5, 1e-4, 1e-3)  # from SimCLR's features


def features(method: str, value: float, penalties: Sequence[float]) -> Row:
    """A method's features with a readout for each penalty."""
    solvers = ("softmax", "ridge") if method == "SimCLR" else ("softmax",)
    readouts = {f"{s}{i}": (s, penalty) for s in solvers for i, penalty in enumerate(penalties)}
    names = {name: method if s == "softmax" else RIDGE for name, (s, _) in readouts.items()}
    row = run.features(method, value, readouts, names, SPLIT, SHOTS)
    settings = {name: dict(value=value, penalty=penalty) for name, (_, penalty) in readouts.items()}
    reads = [
        ({**columns, **settings[wanted["accuracy"].rpartition("_")[0]]}, wanted)
        for columns, wanted in row.reads
    ]
    return row._replace(reads=reads)


def place(method: str, value: float) -> str:
    return f"{method}-{value:g}"


def trained(
    method: str, rates: Sequence[float], augmented: bool, origin: tuple[str, float] | None = None
) -> dict[str, Row]:
    """The network at every rate and number of labels."""
    penalty = origin[1] if origin else 0.0
    return {
        f"{place(method, rate)}-{n}": run.trained(
            method, n, rate, augmented, origin, SPLIT
        )._replace(columns=dict(value=rate, penalty=penalty), after="")
        for rate in rates
        for n in SHOTS
    }


def stages(collect: Collect) -> Results:
    """Method by method; fine-tuning starts from the features that were chosen for SimCLR."""
    results = collect({"pixels": features("pixels", 0.0, MANY)})
    for method, values in OWN.items():
        results += collect({place(method, v): features(method, v, PENALTIES) for v in values})
    value, penalty = results.where(method="SimCLR").best("accuracy", "value", "penalty")
    # The ridge regression is chosen for the features that the softmax regression chose.
    results = Results(line for line in results if line["method"] != RIDGE or line["value"] == value)
    results += collect(trained("fine-tuned", TUNED, True, (place("SimCLR", value), penalty)))
    for augmented, method in zip((False, True), run.BASELINES[1:], strict=True):
        results += collect(trained(method, RATES, augmented))
    return results


TUNING = run.EXPERIMENT.tuning((100, 101), stages=stages)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)
    for method in TUNING.read().of("method"):
        lines = TUNING.read().where(method=method)
        print(method, lines.best("accuracy", "value", "penalty"))
