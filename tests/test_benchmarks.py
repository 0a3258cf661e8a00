"""What all benchmarks share, and that their two sides compute the same; nothing is timed here."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


TRUNKS = [dict(name="cnn", channels=(2, 3)), dict(name="mlp", features=(6, 4))]


@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda trunk: trunk["name"])
def test_tljax_and_torch_compute_the_same(trunk):
    pytest.importorskip("torch")
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
    pytest.importorskip("torch")
    from benchmarks.sweep import POINTS, unlike

    ours = [(0.5, "{}")] * 16
    assert unlike(ours, list(ours)) == []
    # The same accuracy, but another loss; and the same result, but not as the table has it.
    others = [*ours[:5], (0.5, "{ }"), *ours[6:15], (0.25, "{}")]
    assert unlike(ours, others) == [POINTS[5], POINTS[15]] == [(0.3, 1), (3.0, 3)]


def test_accuracies_are_compared_weight_by_weight():
    pytest.importorskip("torch")
    from benchmarks.sweep import apart

    # Every weight: mean ½ and variance ⅓ of four seeds, so that the mean of four has √(⅓/4)/√4.
    # The weights' own levels are no variance.
    levels = [level for level in (0.0, 1.0, 2.0, 3.0) for _ in range(4)]
    ours = [level + seed for level, seed in zip(levels, [0.0, 0.0, 1.0, 1.0] * 4, strict=True)]
    assert apart(ours, levels) == pytest.approx((0.5, (1 / 48) ** 0.5))


def test_a_sweeps_table_is_read_by_its_points(tmp_path):
    pytest.importorskip("torch")
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


def test_both_sides_of_mobilenet_compute_the_same():
    for package in ("torch", "transformers"):
        pytest.importorskip(package)
    from benchmarks.backbones import passes

    apart, of_passes = passes("MobileNetV2", 32, 2, "cpu", compiled=False)
    assert apart < 1e-5
    assert {name: [*each] for name, each in of_passes.items()} == {
        "forward": ["tljax", "eager"],
        "and backward": ["tljax", "eager"],
    }


# The frame, which needs no torch.


@pytest.fixture
def frame(monkeypatch):
    from benchmarks import frame

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return frame


def sampler(*samples):
    """Gives one sample after another."""
    left = iter(samples)
    return lambda: next(left)


def test_what_others_take_leaves_out_this_process(frame):
    # Of 2 cores in a second the machine took 1.3 s and this process 0.3 s: others half of it.
    assert frame.others(sampler((10.0, 2.0), (11.3, 2.3))) == pytest.approx(0.5)
    # Ticks of the machine are coarser than this process's own clock.
    assert frame.others(sampler((10.0, 2.0), (10.99, 3.0))) == 0.0
    assert frame.others(sampler(None, None)) is None


def test_a_busy_machine_is_refused_in_one_line(frame, capsys):
    with pytest.raises(SystemExit) as refusal:
        frame.quiet(False, look=lambda: 0.5, load=lambda: 0.1)
    assert refusal.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("other processes take 50% of the cores; expected at most 5% and 0.5")
    assert "--busy" in line and "load average of" not in line
    with pytest.raises(SystemExit):  # without /proc/stat
        frame.quiet(False, look=lambda: None, load=lambda: 0.51)
    assert "load average of a minute is 0.51" in capsys.readouterr().err


def test_a_quiet_machine_passes_and_busy_goes_on(frame, capsys):
    assert frame.quiet(False, look=lambda: 0.05, load=lambda: 0.5) == ""
    both = "other processes take 50% of the cores and the load average of a minute is 3.00"
    assert frame.quiet(True, look=lambda: 0.5, load=lambda: 3.0) == both
    assert frame.quiet(True, look=lambda: 0.0, load=None) == ""
    assert capsys.readouterr() == ("", "")


def kept(frame, monkeypatch, tmp_path, looks):
    """What is kept of a measurement, of `looks` before and after it."""
    monkeypatch.setattr(frame, "RESULTS", tmp_path)
    monkeypatch.setattr(frame, "quiet", lambda busy, **how: next(looks))
    (tmp_path / "x.json").write_text('{"other": {}}')
    with frame.measured("x", argparse.Namespace(busy=True, write=True), lambda: "one") as record:
        record["ms"] = [1.0]
        record.head("name", "ms")
        record.row("a", 1)
    return json.loads((tmp_path / "x.json").read_text())


def test_a_record_says_what_it_was_measured_with(frame, monkeypatch, tmp_path, capsys):
    found = kept(frame, monkeypatch, tmp_path, iter(["", ""]))
    assert found.keys() == {"other", "one"}
    expected = {"jax", "device", "processor", "cores", "commit", "busy", "ms"}
    assert expected <= found["one"].keys()
    assert (found["one"]["ms"], found["one"]["busy"]) == ([1.0], "")
    assert capsys.readouterr().out == "| name | ms |\n|---|---|\n| a | 1 |\n"


@pytest.mark.parametrize(
    ("looks", "said", "row"),
    [(["a", ""], "a", "| a | 1 | busy |"), (["", "b"], "after it b", "| a | 1 |")],
)
def test_what_a_busy_machine_gave_is_marked(frame, monkeypatch, tmp_path, capsys, looks, said, row):
    found = kept(frame, monkeypatch, tmp_path, iter(looks))
    assert found["one"]["busy"] == said
    assert capsys.readouterr().out.splitlines()[2:] == [row, f"busy: {said}"]


def test_contestants_take_turns_and_the_first_round_is_dropped(frame):
    turns = []
    contestants = {name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}
    found = frame.rounds(contestants, 2, measure=lambda run: run(), scale=10.0)
    assert turns == ["a", "b"] * 3
    assert found == {"a": [30.0, 50.0], "b": [40.0, 60.0]}


def test_spreads_ratios_and_the_fastest(frame):
    assert frame.spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0–3.0)"
    assert frame.ratios([2.0, 3.0], [1.0, 6.0]) == [2.0, 0.5]
    # Of the medians 2 and 3; the mean of the first is larger.
    times = {"ours": [0.0], "a": [1.0, 2.0, 90.0], "b": [3.0, 3.0, 3.0]}
    assert frame.fastest(times, ["a", "b"]) == "a"


def test_the_processor_time_of_this_machine_is_read(frame):
    if (sample := frame.taken()) is None:
        pytest.skip("no /proc/stat")
    assert np.isfinite(sample).all() and sample[0] > sample[1] > 0


def test_what_a_benchmark_did_to_start_is_no_load_of_others(frame, monkeypatch):
    """41.6 s of a processor are a half in a minute's load average, which falls by e each minute."""
    monkeypatch.setattr(frame.os, "getloadavg", lambda: (0.7, 0.0, 0.0))
    monkeypatch.setattr(frame.time, "process_time", lambda: 60 * math.log(2))
    assert frame.load_of_others() == pytest.approx(0.2)
    monkeypatch.setattr(frame.os, "getloadavg", lambda: (0.3, 0.0, 0.0))
    assert frame.load_of_others() == 0.0
