"""The two sides of the benchmark compute the same; nothing is timed here."""

from pathlib import Path

import pytest

pytest.importorskip("torch")


def test_tljax_and_torch_compute_the_same(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks.dann import differences
    from configs.dann import get_config

    config = get_config()
    config.network.trunk.channels = (2, 3)
    config.network.heads.label.hidden = config.network.heads.domain.hidden = (5,)
    for stream in config.streams.values():
        stream.size, stream.batch = 8, 4
    found = differences(config)
    names = ("features", "label logits", "domain logits", "loss", "parameters", "average")
    assert tuple(found) == names
    assert {name: value for name, value in found.items() if value > 1e-4} == {}
