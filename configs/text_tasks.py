"""Three tasks in one network: pairs of sentences, single sentences, spans; from MiniLM's weights.

    tljax --config text_tasks --workdir runs/text --config.data_dir=DIR

DIR holds `pair`, `single` and `span`, each with train.jsonl and test.jsonl (or .csv): `text`,
`text_pair`, `label`; `text`, `label`; `text`, `text_pair`, `start`, `end` (characters of the
second). `python -m experiments.pretrained.fetch minilm` brings all-MiniLM-L6-v2;
`text_tasks:scratch` does without: half a second a step on one core. Expected: what the tasks bring
each other depends on their labels; 40 made-up sentences each are learned in 60 steps from scratch.
"""

import os

from tljax.configs import tasks
from tljax.experiment import blank


def get_config(way="minilm"):
    config = blank()
    config.method = "three tasks of text"
    config.family = "multitask"
    lengths = dict(pair=64, single=32, span=64)
    reads = {name: dict(data=f"text:{name}", length=lengths[name]) for name in lengths}
    tasks.texts(config, reads, 16, {})
    tasks.spans(config, "span")
    # "uncertainty", "dwa", "pcgrad", "mgda", … over the trunk; or mixing=2.0 by the tasks' sizes.
    config.balance = dict(name="sum")
    config.optimizer = tasks.adamw(5e-5)
    config.update(steps=600, evaluate_every=200, checkpoint_every=200)
    if way == "scratch":
        config.tokenizer = dict(file="", vocabulary=8000, lowercase=True)
        size = dict(vocabulary=8000, length=64, width=128, depth=3, heads=4, separator=3)
        config.network.trunk = dict(name="bert", **size)
        config.optimizer.learning_rate = 5e-4
        return config
    minilm = os.path.join(tasks.cache(), "all-minilm-l6-v2")
    config.tokenizer.file = f"{minilm}/tokenizer.json"
    config.network.trunk = dict(name="bert", width=384, depth=6, separator=102)
    config.start = (("trunk/**", f"weights:{minilm}/model.safetensors"), ("**", "fresh"))
    return config
