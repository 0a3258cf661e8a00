"""A run's directory: held by one, begun with some data, and never half a file in it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.errors import Noticed, UserError
from tljax.experiment import sweep, workdir
from tljax.experiment.check import resolve
from tljax.main import main
from tljax.report import tables
from tljax.train import checkpoint, files
from tljax.train.records import Records, read

RACES = int(os.environ.get("TLJAX_RACES", "1"))  # TLJAX_RACES=10 for the long form


def small(**changes):
    """A network of one layer on 8×8 digits: 6 steps, saved at each second."""
    config = experiment.blank()
    digits = dict(data="digits", size=8)
    config.streams.source = dict(digits, split="train[:64]", batch=16)
    config.evaluate.target = dict(digits, split="train[1400:1464]")
    config.network.trunk = dict(name="mlp", features=(8,))
    config.terms.label = dict(term="cross_entropy")
    config.update(steps=6, log_every=2, evaluate_every=2, checkpoint_every=2, keep=9, figures=False)
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    experiment.run(small(), path)
    return path


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def unfinish(run, step=4):
    """As a kill before the end leaves it: saved at `step`, nothing of the end."""
    (run / "result.json").unlink()
    shutil.rmtree(run / "phases/train/final")
    (run / "phases/train/ended.json").unlink()
    for path in (run / "checkpoints/train").iterdir():
        if int(path.name) > step:
            shutil.rmtree(path)


def read_json(path):
    return json.loads(path.read_text())


class TestHeld:
    def test_a_second_run_is_refused_with_who_holds_it(self, tmp_path):
        with workdir.claimed(tmp_path, resolve(small())):
            with pytest.raises(UserError, match="nothing else runs in; this process holds it"):
                experiment.run(small(), tmp_path)
            other = subprocess.run(
                [sys.executable, "-c", f"import fcntl; fcntl.lockf(open({str(tmp_path)!r} + "
                 "'/.lock', 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"],
                capture_output=True, text=True,
            )  # fmt: skip
            assert "BlockingIOError" in other.stderr
        experiment.run(small(steps=2), tmp_path)  # it was let go, and nothing had begun

    def test_another_process_that_holds_it_is_named(self, tmp_path):
        (tmp_path / "run").mkdir()
        code = (
            "import fcntl, sys, time\n"
            f"file = open({str(tmp_path / 'run' / '.lock')!r}, 'a+')\n"
            "fcntl.lockf(file, fcntl.LOCK_EX); file.write('process 77 on nemo'); file.flush()\n"
            "print('held', flush=True); time.sleep(60)"
        )
        holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="process 77 on nemo holds it"):
            experiment.run(small(), tmp_path / "run")
        holder.kill()
        holder.wait()
        experiment.run(small(steps=2), tmp_path / "run")  # a dead holder's lock is taken over

    def test_a_file_system_without_locks_is_told(self, tmp_path, monkeypatch):
        import fcntl

        def refuse(*arguments):
            raise OSError(37, "No locks available")

        monkeypatch.setattr(fcntl, "lockf", refuse)
        with pytest.warns(Noticed, match=r"has no locks \(No locks available\)"):
            experiment.run(small(steps=2), tmp_path / "run")

    @pytest.mark.parametrize("race", range(RACES))
    def test_two_starts_at_once_leave_one_run(self, tmp_path, race):
        (tmp_path / "config.py").write_text(
            "from tests.test_workdir import small\n\n\n"
            "def get_config():\n    return small(steps=200)\n"
        )
        command = [sys.executable, "-m", "tljax.main", f"--config={tmp_path}/config.py", "--quiet"]
        command += [f"--workdir={tmp_path}/run"]
        both = []
        for _ in range(2):
            both.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            time.sleep(race % 5 * 0.02)
        errors = [process.communicate(timeout=120)[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 2], errors
        assert "holds it" in "".join(errors) and "".join(errors).count("\n") == 1
        steps = [r["step"] for r in read(tmp_path / "run") if r["kind"] == "train"]
        assert steps == list(range(2, 201, 2))

    def test_a_finished_run_is_read_where_nothing_may_be_written(self, run):
        for path in (run, *run.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        again = experiment.run(small(), run)
        assert again == read_json(run / "result.json")
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


class TestData:
    def archive(self, path, images, labels):
        np.savez(path, image=images, label=labels)

    def config(self, path):
        config = small()
        config.streams.source = dict(data=f"npz:{path}", batch=16)
        config.evaluate.target = dict(data=f"npz:{path}")
        return config

    @pytest.mark.parametrize("change", ["pixels", "labels", "order", "fewer"])
    def test_other_data_are_refused_on_resume(self, tmp_path, change):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, (40, 8, 8, 1), dtype=np.uint8)
        labels = np.arange(40) % 4
        self.archive(tmp_path / "d.npz", images, labels)
        config = self.config(tmp_path / "d.npz")
        experiment.run(config, tmp_path / "run")
        unfinish(tmp_path / "run")
        changed = {
            "pixels": (np.where(np.arange(40)[:, None, None, None] == 7, 0, images), labels),
            "labels": (images, np.roll(labels, 1)),
            "order": (images[::-1], labels[::-1]),
            "fewer": (images[:36], labels[:36]),
        }[change]
        self.archive(tmp_path / "d.npz", *changed)
        with pytest.raises(UserError, match=r"streams\.source: got \{.*fingerprint.*began with"):
            experiment.run(config, tmp_path / "run")
        self.archive(tmp_path / "d.npz", images, labels)
        experiment.run(config, tmp_path / "run")

    def test_the_same_files_elsewhere_are_the_same_data(self, tmp_path):
        from PIL import Image

        from tljax.data import sources
        from tljax.data.fingerprints import fingerprint

        for i in range(6):
            path = tmp_path / "here" / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(path)
        shutil.copytree(tmp_path / "here", tmp_path / "there")
        first, second = (
            sources.load(f"folder:{tmp_path}/{place}", "train") for place in ("here", "there")
        )
        assert fingerprint(first) == fingerprint(second)
        (tmp_path / "there" / "a" / "4.png").rename(tmp_path / "there" / "a" / "9.png")
        third = sources.load(f"folder:{tmp_path}/there", "train")
        assert fingerprint(third) != fingerprint(first)

    def test_another_origin_is_refused_while_it_is_still_to_be_read(self, whole, tmp_path):
        origin = shutil.copytree(whole, tmp_path / "origin")
        config = small()
        label = dict(label=dict(term="cross_entropy"))
        config.phases = ("first", "second")
        config.first = dict(terms=label)
        config.second = dict(terms=label, start=(("**", f"run:{origin}"),))
        experiment.run(config, tmp_path / "run")
        (tmp_path / "run/result.json").unlink()
        for path in (*(tmp_path / "run/phases").iterdir(),):
            shutil.rmtree(path) if path.name == "second" else None
        shutil.rmtree(tmp_path / "run/checkpoints/second")
        shutil.rmtree(origin)
        experiment.run(small(seed=1), origin)
        with pytest.raises(UserError, match=r"start run:.*: got \{'fingerprint'.*began with"):
            experiment.run(config, tmp_path / "run")

    def test_a_damaged_list_of_data_is_told_and_survived(self, run):
        unfinish(run)
        (run / "data.json").write_text("{")
        with pytest.warns(Noticed, match="data.json.*whether the data are still the same"):
            experiment.run(small(), run)
        assert read_json(run / "data.json")["streams.source"]["examples"] == 64


class TestFiles:
    def test_nothing_half_written_is_left(self, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        files.write(tmp_path / "a", "before")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            files.write(tmp_path / "a", "after")
        assert caught.value.filename == str(tmp_path / "a")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_text() == "before"

    def test_a_file_is_on_disk_before_it_is_renamed(self, tmp_path, monkeypatch):
        from pathlib import Path

        done, fsync, replace = [], os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda d: (done.append("sync"), fsync(d))[1])
        monkeypatch.setattr(Path, "replace", lambda *a: (done.append("rename"), replace(*a))[1])
        files.write_json(tmp_path / "a.json", {})
        assert done == ["sync", "rename", "sync"]  # the file, its name, the folder

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_no_number_is_no_json(self, tmp_path, value):
        with pytest.raises(ValueError, match="not JSON compliant"):
            files.write_json(tmp_path / "a.json", {"loss": value})
        with contextlib.closing(Records(tmp_path)) as records:
            with pytest.raises(ValueError, match="not JSON compliant"):
                records.write("train", 1, "train", {"loss": value})


class TestDamage:
    @pytest.mark.parametrize("text", [b"", b"{}", b'{"evaluations": {"tar', b"\xff\xfe", b"[]"])
    def test_a_damaged_result_is_made_again(self, run, whole, text):
        (run / "result.json").write_bytes(text)
        with pytest.warns(Noticed, match=r"result\.json: expected JSON of ours"):
            experiment.run(small(), run)
        assert (run / "result.json").read_bytes() == (whole / "result.json").read_bytes()

    @pytest.mark.parametrize("name", ["phases/train/ended.json", "phases/train/final"])
    def test_a_damaged_end_is_made_again_from_the_checkpoint(self, run, whole, name):
        (run / "result.json").unlink()
        if (run / name).is_dir():
            for path in (run / name).rglob("*"):
                if path.is_file():
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            (run / name).write_text("")
        with pytest.warns(Noticed, match="the phase ends again"):
            experiment.run(small(), run)
        assert (run / "result.json").read_bytes() == (whole / "result.json").read_bytes()
        assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()

    def test_a_damaged_start_is_made_again(self, run, whole):
        unfinish(run)
        for path in (run / "phases/train/start").rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
        with pytest.warns(Noticed, match="it is made again"):
            experiment.run(small(), run)
        assert (run / "result.json").read_bytes() == (whole / "result.json").read_bytes()

    @pytest.mark.parametrize("text", [b"", b'{"streams": ', b'{"other": 1}', b"\x00" * 40])
    def test_a_damaged_config_is_named(self, run, text):
        (run / "config.json").write_bytes(text)
        (run / "result.json").unlink()
        with pytest.raises(UserError, match=r"config\.json"):
            experiment.run(small(), run)
        assert (run / "metrics.jsonl").stat().st_size

    def test_other_parameters_are_no_damage(self, run):
        unfinish(run)
        state = checkpoint.load(run / "checkpoints/train/4")
        wider = {**state, "params": {**state["params"], "extra": np.zeros(3, np.float32)}}
        checkpoint.save(run / "checkpoints/train/4", wider)
        with pytest.raises(UserError, match=r"holds other parameters .*\+ params/extra"):
            experiment.run(small(), run)
        assert (run / "checkpoints/train/4").exists()
        assert not list(run.glob("checkpoints/damaged*"))


class TestRecords:
    lines = tuple(
        json.dumps({"phase": "train", "step": step, "kind": "train", "loss": 1.0}) + "\n"
        for step in (1, 2, 3)
    )

    def records(self, tmp_path, content):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        Records(tmp_path).close()
        return (tmp_path / "metrics.jsonl").read_text()

    @pytest.mark.parametrize(
        "middle",
        [b"x\n", b'{"step": 1}\n', b"[1, 2]\n", b"\xff\xfe\n", b"\n", b'{"phase": "a", "ste\n',
         b'{"phase": "train", "step": "2", "kind": "train"}\n'],
    )  # fmt: skip
    def test_what_is_no_record_is_taken_out_and_counted(self, tmp_path, middle):
        first, second, third = (line.encode() for line in self.lines)
        with pytest.warns(Noticed, match=r"metrics\.jsonl: 1 of 4 lines .*\(line 2\): left out"):
            text = self.records(tmp_path, first + middle + second + third)
        assert text == "".join(self.lines)

    def test_a_line_that_a_kill_cut_short_goes_quietly(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            text = self.records(tmp_path, "".join(self.lines).encode()[:-9])
        assert text == "".join(self.lines[:2])

    def test_a_last_record_without_its_newline_stays(self, tmp_path):
        assert self.records(tmp_path, "".join(self.lines).encode()[:-1]) == "".join(self.lines)


class TestVersions:
    def test_the_config_carries_the_version(self, run):
        assert read_json(run / "config.json")["version"] == tljax.__version__

    @pytest.mark.parametrize("field", ["accumulate", "mesh.shard", "streams.source.batch", "keep"])
    def test_a_field_that_an_earlier_version_lacked_has_its_default(self, run, field):
        config = small(keep=2)
        config.streams.source.batch = 64
        unfinish(run)
        record = {**resolve(config), "version": "0.0.1"}
        record = json.loads(json.dumps(record))
        *above, last = field.split(".")
        section = record
        for key in above:
            section = section[key]
        del section[last]
        (run / "config.json").write_text(json.dumps(record))
        workdir._differing(run, resolve(config), sweep=False)  # no refusal

    def test_a_field_that_is_gone_is_named_with_the_version(self, run):
        record = read_json(run / "config.json")
        record.update(version="0.0.9", momentum_of_old=3)
        (run / "config.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=r"momentum_of_old.*written by tljax 0\.0\.9, this is"):
            experiment.run(small(), run)

    def test_a_run_is_no_sweep(self, run):
        with pytest.raises(UserError, match="a directory of a sweep, not of a run"):
            sweep.run(small(), [{"seed": 1}], run)


class TestMoved:
    """What a run needs may lie elsewhere when it goes on; what it is stays the same."""

    @pytest.fixture
    def moved(self, tmp_path):
        rng = np.random.default_rng(0)
        inputs, labels = rng.random((32, 4), np.float32), np.arange(32) % 2
        for place in ("before", "after"):
            (tmp_path / place).mkdir()
            np.savez(tmp_path / place / "t.npz", input=inputs, label=labels)

        def config(place):
            made = small(data_dir=str(tmp_path / place), compiled_dir="")
            made.streams.source = made.evaluate.target = dict(data="npz:t.npz")
            made.streams.source.batch = 16
            return made

        run = tmp_path / "run"
        experiment.run(config("before"), run)
        result = read_json(run / "result.json")
        unfinish(run)
        shutil.rmtree(tmp_path / "before")
        return run, config("after"), result

    def test_it_goes_on_where_its_data_and_caches_are_now(self, moved, tmp_path):
        run, config, result = moved
        config.update(features_dir=str(tmp_path / "f"), compiled_dir=str(tmp_path / "c"))
        assert experiment.run(config, run) == result
        assert read_json(run / "config.json")["data_dir"] == str(tmp_path / "after")

    def test_other_data_there_are_refused(self, moved, tmp_path):
        run, config, _ = moved
        inputs = np.zeros((32, 4), np.float32)
        np.savez(tmp_path / "after/t.npz", input=inputs, label=np.arange(32) % 2)
        with pytest.raises(UserError, match="streams.source: .*what the run began with"):
            experiment.run(config, run)

    def test_caches_have_no_part_in_the_names_of_a_sweep(self):
        names = [
            sweep.members(small(**caches), [{"seed": 1}])[0].name
            for caches in ({}, dict(features_dir="a"), dict(compiled_dir=""), dict(data_dir="b"))
        ]
        assert names[0] == names[1] == names[2] != names[3]


class TestMoreSteps:
    def test_a_finished_run_goes_on_as_if_it_had_never_ended(self, run, tmp_path):
        """At a constant rate and weight nothing depends on how far the end is."""
        first = read_json(run / "result.json")
        longer = experiment.run(small(steps=10), run)
        at_once = experiment.run(small(steps=10), tmp_path / "at_once")
        assert longer == at_once != first
        assert read_json(run / "result@6.json") == first
        assert (run / "metrics.jsonl").read_text() == (
            tmp_path / "at_once" / "metrics.jsonl"
        ).read_text()

    def test_fewer_steps_or_other_fields_are_another_run(self, run):
        for changes in (dict(steps=4), dict(steps=10, keep=3)):
            with pytest.raises(UserError, match="a run of the same config; these differ: .*steps"):
                experiment.run(small(**changes), run)

    def test_what_has_not_ended_is_ended_first(self, run):
        unfinish(run)
        with pytest.raises(UserError, match="steps: got 10; expected the end of its 6 steps first"):
            experiment.run(small(steps=10), run)

    def test_a_kill_between_is_survived(self, run, tmp_path):
        with workdir.claimed(run, resolve(small(steps=10))):
            pass  # taken up again, and killed at once
        at_once = experiment.run(small(steps=10), tmp_path / "at_once")
        assert experiment.run(small(steps=10), run) == at_once


class TestSweep:
    @pytest.fixture(scope="class")
    def whole_sweep(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("sweep") / "s"
        sweep.run(small(), [{"seed": seed} for seed in range(3)], path)
        return path

    @pytest.fixture
    def swept(self, whole_sweep, tmp_path):
        return shutil.copytree(whole_sweep, tmp_path / "s")

    points = tuple({"seed": seed} for seed in range(3))

    @pytest.mark.parametrize("text", ["", '{"evaluations": {'])
    def test_a_cut_result_of_a_member_is_made_again(self, swept, text):
        before = (swept / "results.csv").read_bytes()
        member = sorted((swept / "members").iterdir())[1]
        (member / "result.json").write_text(text)
        with pytest.warns(Noticed, match="made again"):
            rows = sweep.run(small(), self.points, swept)
        assert [row["status"] for row in rows] == ["finished"] * 3
        assert (swept / "results.csv").read_bytes() == before

    def test_a_member_that_cannot_be_read_fails_alone(self, swept):
        member = sorted((swept / "members").iterdir())[1]
        (member / "result.json").unlink()
        (member / "config.json").write_text("")
        rows = sweep.run(small(), self.points, swept)
        status = {row["member"]: row["status"] for row in rows}
        assert status.pop(member.name).startswith("failed: workdir: ")
        assert set(status.values()) == {"finished"}

    def test_a_member_that_is_a_file_fails_alone(self, swept):
        member = sorted((swept / "members").iterdir())[0]
        shutil.rmtree(member)
        member.write_text("")
        rows = sweep.run(small(), self.points, swept)
        assert sorted(row["status"][:8] for row in rows) == ["failed: ", "finished", "finished"]
        tables.show(swept)

    def test_a_mistake_that_all_share_ends_the_sweep(self, tmp_path):
        config = small()
        config.terms.label.head = "nowhere"
        with pytest.raises(UserError, match="nowhere"):
            sweep.run(config, self.points, tmp_path / "s")

    @pytest.mark.parametrize("cut", [0, 20, -2, -30])
    def test_a_report_of_a_damaged_table_is_a_line(self, swept, cut, capsys):
        path = swept / "results.csv"
        path.write_bytes(path.read_bytes()[:cut])
        assert main(["tljax", "report", str(swept)]) == 2
        error = capsys.readouterr().err
        assert "results.csv" in error and "makes it anew" in error and error.count("\n") == 1

    def test_a_table_that_lacks_members_says_so(self, swept):
        path = swept / "results.csv"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.warns(Noticed, match="lacks 1 members"):
            tables.load(swept)

    def test_a_second_sweep_of_the_same_members_is_refused(self, swept, monkeypatch):
        for path in swept.glob("members/*/result.json"):
            path.unlink()
        member = next(swept.glob("members/*"))
        with workdir._held(member), pytest.raises(UserError, match="holds it"):
            sweep.run(small(), self.points, swept)


@pytest.mark.parametrize("moment", ["loading", "training twice"])
def test_signals_end_in_one_line(tmp_path, moment):
    wait = "import time; time.sleep(60)" if moment == "loading" else ""
    (tmp_path / "config.py").write_text(
        "from tests.test_workdir import small\n\n\ndef get_config():\n"
        f"    open({str(tmp_path / 'begun')!r}, 'w'); {wait or 'pass'}\n"
        "    return small(steps=10**6, log_every=1000, evaluate_every=10**6, "
        "checkpoint_every=10**6)\n"
    )
    command = [sys.executable, "-m", "tljax.main", f"--config={tmp_path}/config.py", "--quiet"]
    command += [f"--workdir={tmp_path}/run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen = tmp_path / ("begun" if moment == "loading" else "run/phases/train/start")
    deadline = time.monotonic() + 60
    while not seen.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    if moment != "loading":
        time.sleep(0.001)
        process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert error.count("\n") == 1 and error.startswith("tljax: "), error


def test_loader_processes_end_with_a_run_that_is_killed(tmp_path):
    from PIL import Image

    for i in range(32):
        path = tmp_path / "images" / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
    (tmp_path / "config.py").write_text(
        "from tests.test_workdir import small\n\n\ndef get_config():\n"
        "    config = small(steps=10**6, log_every=10, evaluate_every=10**6, "
        "checkpoint_every=10**6, resident_megabytes=0.0, workers=2)\n"
        f"    config.streams.source = dict(data='folder:{tmp_path}/images', batch=8)\n"
        f"    config.evaluate.target = dict(data='folder:{tmp_path}/images')\n"
        "    return config\n"
    )
    command = [sys.executable, "-m", "tljax.main", f"--config={tmp_path}/config.py", "--quiet"]
    command += [f"--workdir={tmp_path}/run"]
    mark = f"TLJAX_TEST={tmp_path}"
    process = subprocess.Popen(command, env={**os.environ, "TLJAX_TEST": str(tmp_path)})
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/phases/train/start").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    assert len(marked(mark)) > 2  # the run, and its loaders
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not marked(mark)


def marked(mark):
    """The processes with this in their environment."""
    found = []
    for place in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{place}/environ", "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(place))
    return found
