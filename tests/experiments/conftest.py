"""How the tests of experiments shrink what they run."""

import numpy as np
import pytest


def small(config):
    """A few steps of small batches of a narrow network on small images, all else as declared."""
    for fields in (*config.streams.values(), *config.evaluate.values()):
        if "of" in fields:
            fields["transforms"] = ()  # views take long to compile
            continue
        if fields.data.startswith("idx:"):  # garments are not installed everywhere
            fields.update(data="digits", split="train[:100]")
        if fields.data != "pairs":
            fields["size"] = 8
        fields["batch"] = 10 if "per_class" in fields else 8
    trunk = config.network.trunk
    for width in ("channels", "features"):
        if width in trunk:
            trunk[width] = (4,) * len(trunk[width])
    for head in config.network.heads.values():
        if "hidden" in head:
            head.hidden = (8,) * len(head.hidden)
    for fields in [config[phase] for phase in config.phases] or [config]:
        fields.steps = min(fields.get("steps", config.steps), 2)
    config.update(steps=min(config.steps, 2), log_every=2, evaluate_every=2, checkpoint_every=2)


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A cache with 100 made digits as MNIST's files; where it is, and their labels."""
    labels = np.arange(100, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 255, (100, 28, 28), np.uint8)
    (tmp_path / "mnist").mkdir()
    for name in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            header = bytes([0, 0, 8, array.ndim]) + sizes
            (tmp_path / "mnist" / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    monkeypatch.setenv("TLJAX_CACHE", str(tmp_path))
    return tmp_path, labels


@pytest.fixture
def goes_on(tmp_path):
    """Runs some rows of an experiment on its first seed, then on two, and returns the lines."""

    def run(declared, names, shrink=small):
        rows = {name: row for name, row in declared.rows().items() if name in names}
        assert len(rows) == len(names)
        some = declared._replace(rows=lambda: rows)
        lines = some.collect(tmp_path, declared.seeds[:1], shrink)
        wider = some.collect(tmp_path, declared.seeds[:2], shrink)
        assert wider.where(seed=declared.seeds[0]) == lines  # read, with its seconds
        assert len(wider) == 2 * len(lines)
        return wider

    return run
