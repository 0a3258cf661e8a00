"""New garments from few labels, shrunk to digits, and what its rows are."""

from experiments import frame
from experiments.frame import Run
from experiments.garments import run
from experiments.report import Results


def deep(config):
    """Two steps of a narrow network, on digits that its four layers can halve."""
    for part in (*config.streams.values(), *config.evaluate.values()):
        part.update(data="digits", split="train[:100]", size=16)
    for stream in config.streams.values():
        stream.batch = min(stream.batch, 8)
    if "channels" in config.network.trunk:
        config.network.trunk.channels = (4,) * 4
    for section in (config, *(config[phase] for phase in config.phases)):
        section.steps = min(section.get("steps", 2), 2)
    config.update(log_every=2, evaluate_every=2, checkpoint_every=2)


def test_the_ways_run_and_go_on_where_they_were(goes_on, monkeypatch):
    tried = Results(
        dict(method=name, labels=2, value=value, seed=0, test=float(i))
        for name in run.METHODS
        for i, value in enumerate(run.values_of(name, 2))
    )
    monkeypatch.setattr(type(run.TUNING), "read", lambda self: tried)
    ways = ("pixels", "linear probe", "fine-tuning, looks", "LP-FT", "L2-SP", "LwF")
    names = ["source", *(f"{way}-2" for way in ways)]
    lines = goes_on(run.EXPERIMENT, names, deep)
    assert [line["method"] for line in lines[::2]] == ["source model", *ways]
    for line in lines[2:]:
        assert line["value"] == run.values_of(line["method"], 2)[-1]
        assert 0 <= line["test"] <= 1 and 0 <= line["train"] <= 1
        assert (line["source"] is None) == (line["method"] in (*run.AFRESH, *run.READ))
    section = run.EXPERIMENT.section(lines)
    assert section.count("| L2-SP | ") == 4 and section.count("| pixels | ") == 3


def test_no_value_is_chosen_on_the_test_and_no_new_kind_is_an_old_one(tmp_path):
    made = Run(0, tmp_path, {"source": {0: tmp_path}})
    assert not set(run.OLD) & set(run.NEW)
    for name in run.METHODS:
        tried = frame.configured(run.row(name, 5, 1.0, tuning=True), made)
        [judged] = tried.evaluate.values()
        taught = tried.streams.target
        assert (judged.split, taught.split, taught.per_class) == (run.TRIED, run.POOL, 5)
        assert tuple(taught.classes) == tuple(judged.classes) == run.NEW
        assert ("run:" in str(tried)) == (name not in run.AFRESH)
