"""One run in several processes: as one of them would run it, whatever happens to the other."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tljax.data import decoded, sources, streams
from tljax.data.lazy import Lazy
from tljax.main import main
from tljax.train import hosts
from tljax.train.records import read

ROOT = Path(__file__).parents[1]

CONFIG = """
from configs.dann import get_config as dann

def get_config():
    config = dann()
    config.network.trunk = dict(name="mlp", features=(32,))
    config.network.heads.label.hidden = (16,)
    config.network.heads.domain.hidden = (16,)
    config.figures = False
    config.steps, config.log_every, config.evaluate_every = 240, 10, 120
    config.checkpoint_every, config.steps_per_dispatch = 20, 10
    # The target is streamed from disk, the source lives on the device.
    for fields in (*config.streams.values(), *config.evaluate.values()):
        fields.update(size=8)
    config.streams.target.update(data="folder:FOLDER", split="train")
    config.resident_megabytes = 0.2
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("hosts")
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images[:1200], digits.target, strict=False)):
        path = directory / "images" / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(path)
    path = directory / "config.py"
    path.write_text(CONFIG.replace("FOLDER", str(directory / "images")))
    return path


def start(config, workdir, *flags):
    command = [sys.executable, "-c", "from tljax.main import script; script()"]
    command += [f"--config={config}", f"--workdir={workdir}", "--quiet", *flags]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(config.parent / "compiled")
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def pair(config, workdir, *flags, own=((), ())):
    """Two processes, each with half of every batch and of every parameter that two divide."""
    together = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", *flags]
    together += ["--connect_timeout=60", "--config.mesh.shard=2"]
    return [start(config, workdir, *together, f"--process_id={i}", *own[i]) for i in (0, 1)]


def ended(process, within=60):
    """(exit code, last line said)."""
    code, said = left(process, within)
    return code, said.strip().splitlines()[-1] if said.strip() else ""


def left(process, within=60):
    """(exit code, all that was said)."""
    said = process.communicate(timeout=within)[1]
    return process.returncode, said


def reach(workdir, step):
    """Waits until a checkpoint of the step is there."""
    deadline = time.monotonic() + 120
    while not (workdir / "checkpoints" / "train" / str(step)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert [ended(each, 120) for each in pair(config, workdir)] == [(0, "")] * 2
    return workdir


def test_two_processes_are_as_one(config, whole, tmp_path):
    assert ended(start(config, tmp_path / "alone"), 120) == (0, "")
    alone, together = read(tmp_path / "alone"), read(whole)
    assert [(r["step"], r["kind"]) for r in alone] == [(r["step"], r["kind"]) for r in together]
    first = [(a["loss"], b["loss"]) for a, b in zip(alone, together, strict=True)][:10]
    one, two = zip(*first, strict=True)  # of 100 steps
    np.testing.assert_allclose(two, one, rtol=1e-5)
    for name in ("config.json", "result.json", "timing.json"):
        assert (whole / name).exists()


def test_what_one_process_loses_the_other_says_and_both_resume(config, whole, tmp_path):
    workdir = tmp_path / "run"
    processes = pair(config, workdir)
    reach(workdir, 40)
    processes[1].send_signal(signal.SIGTERM)  # to one of them alone
    for code, said in map(ended, processes):
        assert code == 128 + signal.SIGTERM and "run the same command again to resume" in said
    for lost in (1, 0):  # 0 is the coordinator
        processes = pair(config, workdir)
        reach(workdir, 80 if lost else 140)
        processes[lost].kill()
        code, said = left(processes[1 - lost], within=60)
        # An exception of the computation has our line and code, an abort by jax its own.
        assert code in (hosts.AGAIN, -signal.SIGABRT), said
        ours = f"tljax: error: process {1 - lost} of 2 cannot go on; if it has lost another"
        assert said and (ours in said) == (code == hosts.AGAIN)
        processes[lost].communicate()
        assert not (workdir / "result.json").exists()
    assert [ended(each, 120) for each in pair(config, workdir)] == [(0, "")] * 2
    for name in ("metrics.jsonl", "result.json"):
        assert (workdir / name).read_text() == (whole / name).read_text()


def test_configs_that_differ_are_refused_by_both(config, tmp_path):
    own = ((), ("--config.seed=3", "--config.terms.domain.weight=0.5"))
    for code, said in map(ended, pair(config, tmp_path / "run", own=own)):
        assert code == 2
        assert "seed (0 in process 0, 3 in process 1)" in said
        assert "terms.domain.weight (1.0 in process 0, 0.5 in process 1)" in said
    assert not (tmp_path / "run").exists()


def test_a_coordinator_alone_is_ended_by_jax(config, tmp_path):
    flags = (f"--coordinator=127.0.0.1:{free_port()}", "--process_id=0", "--num_processes=2")
    code, said = left(start(config, tmp_path / "run", *flags, "--connect_timeout=2"))
    assert code == -signal.SIGABRT and said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--coordinator=somewhere", "--process_id=0", "--num_processes=2"), "HOST:PORT"),
        (("--coordinator=a:99999", "--process_id=0", "--num_processes=2"), "HOST:PORT"),
        (("--coordinator=a:4000", "--process_id=2", "--num_processes=2"), "a number from 0 to 1"),
        (("--coordinator=a:4000", "--process_id=1"), "--num_processes: got None"),
        (("--process_id=1", "--num_processes=2"), "--coordinator: got None"),
        (
            ("--coordinator=127.0.0.1:9", "--process_id=1", "--num_processes=2"),
            "--coordinator: got '127.0.0.1:9'; expected process 0 to answer there within 1 s",
        ),
    ],
)
def test_bad_flags(config, tmp_path, capsys, flags, says):
    argv = ["tljax", f"--config={config}", f"--workdir={tmp_path / 'run'}", *flags]
    assert main([*argv, "--connect_timeout=1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tljax: error: --") and says in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [("KeyError('x')", hosts.AGAIN), ("UserError('no')", 1), ("Stopped('by hand', 15)", 1)],
)
def test_what_is_not_ours_ends_a_connected_process_at_once(error, code):
    """Nothing that is registered to run at the end, as jax's wait for the others is, runs then."""
    script = (
        "import atexit; from tljax.errors import *; from tljax.train import hosts\n"
        "hosts.connected = True; atexit.register(print, 'waited')\n"
        f"with hosts.ending_together(): raise {error}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code and error.partition("(")[0] in done.stderr
    at_once = code == hosts.AGAIN
    assert ("waited" not in done.stdout) == at_once
    assert ("tljax: error: process 0 of 1 cannot go on" in done.stderr) == at_once


def test_a_process_that_is_alone_raises_what_it_meets():
    with pytest.raises(KeyError), hosts.ending_together():
        raise KeyError


def test_a_cluster_that_is_none_is_told(config, tmp_path):
    code, said = ended(start(config, tmp_path / "run", "--distributed"))
    assert code == 2
    assert said.startswith("tljax: error: --distributed: got 'the cluster'; expected processes")
    assert said.endswith("or give --coordinator, --process_id and --num_processes")


def test_a_sweep_needs_no_coordinator(config, tmp_path, capsys):
    argv = ["tljax", "sweep", f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    assert main([*argv, "--over=seed=0,1", "--coordinator=a:4000"]) == 2
    assert "--process_id and --num_processes are enough" in capsys.readouterr().err


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_parts_of_a_batch_are_the_batch(parts):
    table = sources.load("digits", "train[:30]", size=4)
    whole = streams.reader(table, 8, seed=5)
    own = [streams.reader(table, 8, 5, part, parts) for part in range(parts)]
    for step in (0, 1, 7, 100):
        together = [reader.batches[step] for reader in own]
        assert {len(each["label"]) for each in together} == {8 // parts}
        for name, expected in whole.batches[step].items():
            found = np.concatenate([each[name] for each in together])
            np.testing.assert_array_equal(found, expected)


def test_it_reads_its_own_part_alone(monkeypatch):
    table = decoded.materialise(sources.load("digits", "train[:64]", size=4), 0)
    reader, seen = streams.reader(table, 8, 5, part=1, parts=4), []
    real = Lazy.seen
    monkeypatch.setattr(Lazy, "seen", lambda self, i, rng: seen.append(i) or real(self, i, rng))
    for step in range(8):
        reader.batches[step]
    assert len(seen) == len(set(seen)) == 64 // 4


def test_config_json_is_the_agreed_one(whole):
    config = json.loads((whole / "config.json").read_text())
    assert config["mesh"] == {"data": 1, "shard": 2}
