"""Where does DANN adapt, and where is its game lost? λ × ramp × learning rate × seeds.

python -m experiments.ablation_dann.run [--seeds 5] [--workdir runs/ablation_dann]
"""

from pathlib import Path

from experiments import frame, report
from experiments.ablation_dann import config, tables
from experiments.frame import Experiment, Row
from experiments.report import Results


def rows() -> dict[str, Row]:
    return {
        "-".join(f"{name}={value:g}" for name, value in cell.items()): Row(
            config.get_config,
            {config.FIELDS[name]: value for name, value in cell.items()},
            columns=cell,
        )
        for cell in config.cells()
    }


def figure(results: Results, path: Path) -> None:
    """A panel a rate: target accuracy over λ, a line a ramp; a failed run counts 0."""

    def line(rate: float, gamma: float) -> dict[float, list[float]]:
        cells = tables.cells(results.where(rate=rate, gamma=gamma))
        cells = [dict(rate=rate, scale=0.0)] * (gamma == tables.FAST) + cells
        return {cell["scale"]: tables.reached(results, cell) for cell in cells}

    panels = {
        f"rate {rate:g}": {name: line(rate, gamma) for gamma, name in tables.NAMES.items()}
        for rate in sorted(results.of("rate"))
    }
    report.curves(panels, path, "λ")


EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    seeds=config.SEEDS,
    reads={
        "target": "target/accuracy",
        "source": "source/accuracy",
        "validator": "unlabelled/information_maximisation",
    },
    rows=rows,
    tables=tables.tables,
    figure=figure,
)

if __name__ == "__main__":
    frame.main(EXPERIMENT, __doc__)
