"""The schema of a config: every field is set by path, and refused by name where it is wrong."""

import json

import pytest
from shrunk import shrunk_dann

from tljax import experiment
from tljax.errors import UserError
from tljax.experiment import check, fields, grid, sweep
from tljax.experiment.check import change, literal
from tljax.experiment.fields import plain
from tljax.main import main
from tljax.train.records import read

SECTIONS = {
    "": fields.ConfigFields,
    "second.": fields.PhaseFields,
    "streams.source.": fields.StreamFields,
    "evaluate.target.": fields.EvaluationFields,
    "tables.segments.": fields.TableFields,
    "network.": fields.NetworkFields,
    "mesh.": fields.MeshFields,
}
PATHS = [f"{section}{name}" for section, model in SECTIONS.items() for name in model.model_fields]


@pytest.fixture
def config(small):
    small.tables.segments = dict(data="segments")
    return plain(small)


@pytest.mark.parametrize("path", PATHS)
def test_a_value_of_no_kind_that_it_takes_is_refused_by_its_name(config, path):
    with pytest.raises(UserError) as refusal:
        check(change(config, path, object(), "--over"))
    line = str(refusal.value)
    assert line.startswith(f"{path}: got <object") and "expected" in line and "\n" not in line
    assert not line.endswith("expected ")


@pytest.mark.parametrize("path", PATHS)
def test_every_field_can_be_set_by_path_whether_the_file_has_it_or_not(config, path):
    section, _, name = path.rpartition(".")
    model = SECTIONS[f"{section}." if section else ""]
    default = model.model_fields[name].get_default(call_default_factory=True)
    needed = {"data": "digits", "steps": 3, "streams": config["streams"], "batch": 8}
    needed |= {"evaluate": config["evaluate"], "phases": ("first", "second")}
    if name == "terms":
        default = config["first"]["terms"]
    value = needed.get(name, default)
    value = 1 if section == "mesh" else value
    changed = change(config, path, value, "--over")
    check(changed)
    inner = changed
    for key in path.split("."):
        inner = inner[key]
    assert inner == value


def test_a_mistyped_field_is_told_with_the_nearest():
    for path in ("streams.source.per_clas", "evaluate.target.reedout", "optimizer.clipp"):
        section, _, name = path.rpartition(".")
        changed = change(plain(shrunk_dann()), path, 1, "--over")
        with pytest.raises(UserError, match=f"{section}.*unknown name '{name}'.*Did you mean"):
            experiment.build(check(changed))


def test_a_section_that_is_not_there_is_told(config):
    for path in ("streams.sorce.batch", "optimiser.clip", "network.heads.labl.outputs"):
        with pytest.raises(UserError, match="--over .*unknown name.*Did you mean"):
            change(config, path, 1, "--over")


def test_a_field_of_a_phase_that_is_set_alone_keeps_the_others_of_the_top_level(config):
    changed = check(change(config, "second.optimizer.learning_rate", 0.5, "--over"))
    assert changed.phases["second"].optimizer == {
        **config["optimizer"],
        "learning_rate": 0.5,
    }
    assert changed.phases["first"].optimizer == config["optimizer"]


def test_names_and_weights_that_stand_for_sections_become_sections():
    config = plain(shrunk_dann())
    config["terms"]["cross_entropy"] = 0.5
    config["optimizer"]["schedule"] = "inverse"
    config = change(config, "terms.cross_entropy.stream", "source", "--over")
    config = change(config, "optimizer.schedule.gamma", 5.0, "--over")
    config = change(config, "streams.target.transforms[0].strength", 0.1, "--over")
    assert config["terms"]["cross_entropy"] == {"weight": 0.5, "stream": "source"}
    assert config["optimizer"]["schedule"] == {"name": "inverse", "gamma": 5.0}
    [phase] = experiment.build(check(config)).phases.values()
    assert phase.terms["cross_entropy"].weight == 0.5
    assert phase.optimizer.schedule.gamma == 5.0
    assert phase.streams["target"].transforms[0].strength == 0.1


def test_literals():
    typed = ("3", "0.5", "true", "None", "(8, 16)", "sgd", "'1'", "train[:80%]")
    assert [literal(text) for text in typed] == [
        *(3, 0.5, True, None, (8, 16), "sgd", "1", "train[:80%]"),
    ]


def test_fields_that_the_file_does_not_write_are_set_from_the_command_line(tmp_path, capsys):
    file = tmp_path / "small.py"
    file.write_text("from shrunk import shrunk_dann as get_config\n")
    flags = ["--config.streams.source.per_class=1", "--config.optimizer.clip=1.0"]
    flags += ["--config.seed", "3", "--config.average=0", "--quiet"]
    assert main(["tljax", f"--config={file}", f"--workdir={tmp_path / 'run'}", *flags]) == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["streams"]["source"]["per_class"] == 1
    assert written["optimizer"]["clip"] == 1.0 and written["seed"] == 3


def test_they_are_swept_too(tmp_path):
    config = shrunk_dann()
    points = grid.parse(["optimizer.clip=0.01,1e9", "streams.target.transforms.0.strength=0.5"])
    rows = sweep.run(config, points, tmp_path)
    losses = [
        [each["loss"] for each in read(tmp_path / "members" / row["member"]) if "loss" in each]
        for row in rows
    ]
    assert {row["status"] for row in rows} == {"finished"} and losses[0] != losses[1]


def test_two_seeds_of_32_bits_are_two_runs(config):
    keys = set()
    for seed in (0, 1, 2**31, 2**32 - 1):
        built = experiment.build(check(change(config, "seed", seed, "--over")))
        keys.add(str(built.key("first")))
    assert len(keys) == 4
    with pytest.raises(UserError, match="seed: got 4294967296; expected an integer from 0"):
        check(change(config, "seed", 2**32, "--over"))
