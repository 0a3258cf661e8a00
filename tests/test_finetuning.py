"""The snippets of docs/finetuning.md, each on the config that it is written for."""

import re
from pathlib import Path

import pytest

import tljax
from tljax import experiment
from tljax.report import methods

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "finetuning.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMES = ("lora", "bitfit", "lp_ft", "layerwise", "unfreezing", "ewc", "stoch_norm", "bi_tuning")


@pytest.mark.parametrize(("name", "snippet"), list(zip(NAMES, SNIPPETS, strict=True)), ids=NAMES)
def test_a_recipe_runs(name, snippet, tmp_path):
    config = methods.load(ROOT / "configs" / "finetune.py")
    config.network.trunk.update(channels=(3, 4), norm="batch" if name == "stoch_norm" else "none")
    config.network.heads.label.hidden = (5,)
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields.size = 8
    with config.unlocked():
        exec(snippet, {"config": config, "tljax": tljax})
        for phase in config.phases:
            config[phase].steps = 2
    config.update(log_every=2, evaluate_every=2, checkpoint_every=2, figures=False)
    result = experiment.run(config, tmp_path)
    assert 0 <= result["evaluations"]["target"]["accuracy"] <= 1
    assert "failed" not in result
