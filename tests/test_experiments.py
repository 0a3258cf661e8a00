"""The scripts behind the claims, shrunk, and their arithmetic worked by hand."""

import importlib

import pytest

report = importlib.import_module("experiments.report")
domain_shift = importlib.import_module("experiments.domain_shift.run")


def test_domain_shift_runs_and_goes_on_where_it_was(tmp_path):
    def shrink(config):
        for fields in (*config.streams.values(), *config.evaluate.values()):
            fields["size"] = 8
            fields["batch"] = 8
        config.network.trunk.channels = (4, 4)
        config.update(steps=4, log_every=4, evaluate_every=4, checkpoint_every=4)

    reached = domain_shift.collect(1, tmp_path, shrink)
    wider = domain_shift.collect(2, tmp_path, shrink)
    assert {method: len(runs) for method, runs in wider.items()} == dict.fromkeys(reached, 2)
    assert {method: runs[:1] for method, runs in wider.items()} == reached
    assert "| [dann](configs/dann.py) |" in domain_shift.table(wider)


def test_domain_shift_table_by_hand():
    runs = {
        "source_only": [0.6, 0.7, 0.8],
        "dann": [0.8, 0.9, 0.7],  # gains .2, .2, −.1: mean .1, t(2) = 4.3027, s = .1732
        "target_supervised": [1.0, 1.0, 0.7],  # the gap .7 → .9, of which .8 is half
    }
    reached = {m: [{"target": v, "source": 1.0} for v in values] for m, values in runs.items()}
    table = domain_shift.table(reached)
    half = 4.302653 * 0.173205 / 3**0.5
    assert f"**0.100 ± {half:.3f}**" in table
    assert "closed: **50%**" in table
    assert "below the worst of source only: 0." in table
    assert "| [dann](configs/dann.py) | 0.800 ± 0.248 | 0.700 | 1.000 ± 0.000 |" in table


def test_a_section_is_written_between_its_markers_only(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("above\n<!-- x -->\nold\n<!-- end of x -->\nbelow\n")
    for section in ("new", "newer"):
        report.write(section, "x", path)
    assert path.read_text() == "above\n<!-- x -->\n\nnewer\n\n<!-- end of x -->\nbelow\n"
    with pytest.raises(SystemExit, match="has no line"):
        report.write("new", "y", path)
