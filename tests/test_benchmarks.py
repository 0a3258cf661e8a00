"""The two sides of the benchmarks compute the same; nothing is timed here."""

from pathlib import Path

import pytest

pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


TRUNKS = [dict(name="cnn", channels=(2, 3)), dict(name="mlp", features=(6, 4))]


@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda trunk: trunk["name"])
def test_tljax_and_torch_compute_the_same(trunk):
    from benchmarks.dann import differences
    from configs.dann import get_config

    config = get_config()
    config.network.trunk = trunk
    config.terms.domain.weight = 0.3
    config.network.heads.label.hidden = config.network.heads.domain.hidden = (5,)
    for stream in config.streams.values():
        stream.size, stream.batch = 8, 4
    found = differences(config)
    names = ("features", "label logits", "domain logits", "loss", "parameters", "average")
    assert tuple(found) == names
    assert {name: value for name, value in found.items() if value > 1e-4} == {}


def test_a_member_that_differs_is_named():
    from benchmarks.sweep import POINTS, unlike

    ours = [(0.5, "{}")] * 16
    assert unlike(ours, list(ours)) == []
    # The same accuracy, but another loss; and the same result, but not as the table has it.
    others = [*ours[:5], (0.5, "{ }"), *ours[6:15], (0.25, "{}")]
    assert unlike(ours, others) == [POINTS[5], POINTS[15]] == [(0.3, 1), (3.0, 3)]


def test_accuracies_are_compared_weight_by_weight():
    from benchmarks.sweep import apart

    # Every weight: mean ½ and variance ⅓ of four seeds, so that the mean of four has √(⅓/4)/√4.
    # The weights' own levels are no variance.
    levels = [level for level in (0.0, 1.0, 2.0, 3.0) for _ in range(4)]
    ours = [level + seed for level, seed in zip(levels, [0.0, 0.0, 1.0, 1.0] * 4, strict=True)]
    assert apart(ours, levels) == pytest.approx((0.5, (1 / 48) ** 0.5))


def test_a_sweeps_table_is_read_by_its_points(tmp_path):
    from benchmarks.sweep import POINTS, table

    lines = ["member,status,terms.domain.weight,seed,target/accuracy"]
    for i, (weight, seed) in enumerate(POINTS):
        (tmp_path / "members" / f"m{i}").mkdir(parents=True)
        text = f'{{"evaluations": {{"target": {{"accuracy": {i / 16}}}}}}}'
        (tmp_path / "members" / f"m{i}" / "result.json").write_text(text)
        lines.append(f"m{i},finished,{weight},{seed},{i / 16}")
    (tmp_path / "results.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    read = table(tmp_path)
    assert [accuracy for accuracy, _ in read] == [i / 16 for i in range(16)]
    assert [str(i / 16) in text for i, (_, text) in enumerate(read)] == [True] * 16
    (tmp_path / "results.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(SystemExit, match="results.csv"):
        table(tmp_path)
