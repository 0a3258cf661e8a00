"""What keeps the adversarial game of DANN and CDAN+E from being lost?

python -m experiments.stability.run [--seeds 10] [--only game=DANN] [--workdir runs/stability]
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from experiments import frame, report
from experiments.frame import Experiment, Row, Run
from experiments.report import Column, Results

HERE = Path(__file__).parent
GAMES = {"DANN": ("dann", (1.0, 3.0)), "CDAN+E": ("cdan", (0.3, 1.0))}  # and values of λ's scale
WAYS = {
    "nothing": {},
    "smoothing 0.1": {"terms.domain.smoothing": 0.1},
    "ramp γ 5": {"terms.domain.gamma": 5.0},
    "spectral norm": {"network.heads.domain.spectral": True},
    "smoothing 0.1 + spectral norm": {
        "terms.domain.smoothing": 0.1,
        "network.heads.domain.spectral": True,
    },
}
LOST = 0.5  # a target accuracy far below source only


def rows() -> dict[str, Row]:
    found = {}
    for (game, (config, scales)), way in product(GAMES.items(), WAYS):
        for scale in scales:
            fields = {"terms.domain.smoothing": 0.0, "terms.domain.gamma": 10.0}
            fields |= {"network.heads.domain.spectral": False, "terms.domain.scale": scale}
            fields |= WAYS[way]
            columns = dict(game=game, scale=scale, way=way)
            found[f"{game}-{scale:g}-{way}"] = Row(config, fields, blind, columns)
    return found


def blind(config: Any, _: Run) -> None:
    """What chooses: the unlabelled digits that were trained on."""
    target = dict(config.streams.target)
    config.evaluate.blind = {name: target[name] for name in ("data", "size", "channels", "split")}
    config.evaluate.blind.update(transforms=target["transforms"], labelled=False)
    frame.judge_at_the_end(config)


def lost(lines: Results) -> int:
    """How many runs collapsed, or were not finite."""
    return sum((value or 0.0) < LOST for value in lines.values("target"))


def worth(lines: Results) -> float:
    """The mean of the validator; a run that was not finite puts its row last."""
    values = lines.values("validator")
    return -np.inf if None in values else float(np.mean(values))


def winner(results: Results, game: str, scale: float) -> str:
    """The way of the highest validator."""
    lines = results.where(game=game, scale=scale)
    return max(lines.of("way"), key=lambda way: worth(lines.where(way=way)))


def tables(results: Results) -> dict[str, Any]:
    def plain(lines: Results) -> Results:
        return results.where(game=lines[0]["game"], scale=lines[0]["scale"], way="nothing")

    def gain(lines: Results) -> str:
        both = lines.values("target") + plain(lines).values("target")
        whole = len(both) == 2 * len(lines) and None not in both
        return lines.gain("target", plain(lines)) if whole else "–"

    columns: list[Column] = [report.text("game", "game"), report.text("λ", "scale", "{:g}")]
    columns += [report.text("with", "way"), report.mean("target accuracy", "target")]
    columns += [("− nothing", gain), ("lost", lambda lines: f"{lost(lines)} of {len(lines)}")]
    columns += [report.mean("source accuracy", "source")]
    columns += [("validator", lambda lines: f"{worth(lines):.3f}")]
    runs = results.by("game", "scale", "way")
    chosen = [
        f"{game}, λ {scale:g}: {winner(results, game, scale)}"
        for game, (_, scales) in GAMES.items()
        for scale in scales
        if results.where(game=game, scale=scale)
    ]
    return {"table": report.table(columns, runs), "chosen": "; ".join(chosen), "below": LOST}


EXPERIMENT = Experiment(
    HERE,
    seeds=range(200, 210),
    reads={
        "target": "target/accuracy",
        "source": "source/accuracy",
        "validator": "blind/information_maximisation",
    },
    rows=rows,
    tables=tables,
    figure=report.dots("{game}, λ {scale:g}, {way}", "target", "target accuracy"),
)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT)
