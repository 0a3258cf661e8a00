"""A shipped config, small enough for the tests."""

import importlib.util
from pathlib import Path

CONFIGS = Path(__file__).parent.parent / "configs"


def shrunk_dann():
    """`configs/dann.py`, shrunk: 6 steps of 8 and 8 examples of 8×8 pixels."""
    spec = importlib.util.spec_from_file_location("shipped_dann", CONFIGS / "dann.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    splits = {"source": "train[:40]", "target": "train[600:640]"}
    for name, split in splits.items():
        config.streams[name].update(split=split, size=8, batch=8)
    for evaluation in config.evaluate.values():
        evaluation.update(split="train[1400:1420]", size=8, batch=16)
    config.network.trunk.channels = (4, 4)
    for head in config.network.heads.values():
        head.hidden = (8,)
    config.update(steps=6, log_every=3, evaluate_every=3, checkpoint_every=3, figures=False)
    return config
