"""Chooses each method's setting, on classes, images and seeds that no result uses.

    python -m experiments.zero_shot.tune [--workdir runs/zero_shot_tuning]

Fashion-MNIST: the runs leave out two of the five pairs, of train[40000:50000], and each of the two
is judged on train[50000:]. Pairs of digits: ten seen pairs are held out of train[:80%], and what
counts is the area under the seen-unseen curve of train[80%:].
"""

from typing import Any

from experiments import frame
from experiments.frame import Edit, Row, Run
from experiments.zero_shot import run

LEFT_OUT = (0, 1)  # of the pairs of garments
# Networks have the same three learning rates, closed forms four values of their penalty.
RATES = [dict(learning_rate=rate) for rate in (0.01, 0.03, 0.1)]
PENALTIES = {
    "eszsl": [dict(gamma=gamma, lam=1.0) for gamma in (1.0, 10.0, 100.0, 1000.0)],
    "sae": [dict(lam=lam) for lam in (0.1, 1.0, 10.0, 100.0)],
}


def after(row: Row, change: Edit) -> Row:
    """A row of run.py, changed further."""

    def edit(config: Any, seeded: Run) -> None:
        assert row.edit
        row.edit(config, seeded)
        change(config, seeded)

    return row._replace(edit=edit)


def look_at_both(config: Any, seeded: Run) -> None:
    """An evaluation for each pair that is left out, in place of the one."""
    shipped = config.evaluate.unseen.to_dict()
    del config.evaluate.unseen
    for i in LEFT_OUT:
        pair = dict(classes=run.PAIRS[i], unseen=run.PAIRS[i])
        config.evaluate[str(i)] = {**shipped, **pair, "split": "train[50000:]"}


def first_phase(config: Any, seeded: Run) -> None:
    """A config without what follows its first evaluation: the seen pairs, of which ten are held."""
    for name in [name for name in config.evaluate if not name.startswith("validation")]:
        del config.evaluate[name]
    del config.fit
    config.phases = ("calibrate",)


def rows() -> dict[str, Row]:
    rows = {}
    first, second = LEFT_OUT
    both = [(dict(pair=i), {"value": f"{i}/per_class_accuracy"}) for i in LEFT_OUT]
    for method in ("softmax", "ale", "conse", "eszsl"):
        name = "validation_10" if method == "conse" else "validation"
        for i, setting in enumerate(PENALTIES.get(method, RATES)):
            columns = dict(data="digits", method=method, **setting)
            row = after(run.digits(method, setting), first_phase)
            reads = [({}, {"value": f"{name}/ausuc"})]
            rows[f"digits-{method}-{i}"] = row._replace(columns=columns, reads=reads)
    for method in (*run.TRAINED, *run.CLOSED):
        for i, setting in enumerate(PENALTIES.get(method, RATES)):
            columns = dict(data="fashion", method=method, **setting)
            row = after(run.fashion(method, first, setting, run.PAIRS[second]), look_at_both)
            rows[f"fashion-{method}-{i}"] = row._replace(columns=columns, reads=both, seeds=(4,))
    return rows


TUNING = run.EXPERIMENT.tuning((100, 101), rows=rows)

if __name__ == "__main__":
    frame.main(TUNING, __doc__)
