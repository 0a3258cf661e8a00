"""A run that is killed at any moment ends as one that is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from tljax import trees
from tljax.main import main

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("TLJAX_KILLS", "3"))  # TLJAX_KILLS=20 for the long form

CONFIG = """
from configs.dann import get_config as dann

def get_config():
    config = dann()
    config.network.trunk = dict(name="mlp", features=(16,), norm="batch")
    config.network.heads.label.hidden = (8,)
    config.network.heads.domain.hidden = (8,)
    config.figures = False
    config.optimizer.clip = 5.0
    config.log_every, config.evaluate_every, config.checkpoint_every = 7, 40, 20
    config.steps_per_dispatch = 5
    # Two phases; the target is streamed from disk, the source lives on the device.
    config.phases = ("pretrain", "adapt")
    label = dict(term="cross_entropy", weight=1.0, stream="source")
    config.pretrain = dict(flow=("source",), terms=dict(label=label), steps=60)
    config.adapt = dict(steps=120, start=(("heads/domain/**", "fresh"), ("**", "pretrain")))
    config.streams.target.data = "folder:FOLDER"
    config.streams.target.split = "train"
    # Each picture is seen at random, so that what is read tells whether its place is known.
    with config.unlocked():
        config.streams.target.size = None
        config.streams.target.view = dict(name="random_resized_crop", size=16, flip=0.5)
    config.resident_megabytes = 0.5
    return config
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A config file of two phases, and what an uninterrupted run of it leaves."""
    from PIL import Image
    from sklearn.datasets import load_digits

    directory = tmp_path_factory.mktemp("resume")
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images[:800], digits.target, strict=False)):
        path = directory / "images" / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(path)
    config = directory / "config.py"
    config.write_text(CONFIG.replace("FOLDER", str(directory / "images")))
    assert _start(config, directory / "whole").wait() == 0
    return config, directory / "whole"


def _start(config: Path, workdir: Path) -> subprocess.Popen:
    # What is compiled is kept between these runs: the suite has eight minutes.
    command = [sys.executable, "-c", "from tljax.main import script; script()"]
    command += [f"--config={config}", f"--workdir={workdir}", "--quiet"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        del environment[name]
    environment["JAX_COMPILATION_CACHE_DIR"] = str(config.parent / "compiled")
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def _left(workdir: Path) -> tuple[str, str, dict]:
    """The lines, the result and every number of the final state."""
    final = ocp.training.Checkpointer(workdir / "checkpoints" / "adapt")
    state = trees.flatten(final.load_checkpointables()["state"])
    final.close()
    numbers = {path: np.asarray(leaf).tobytes() for path, leaf in state.items()}
    return (workdir / "metrics.jsonl").read_text(), (workdir / "result.json").read_text(), numbers


def _same(one: Path, other: Path) -> None:
    for kind, a, b in zip(("lines", "result", "numbers"), _left(one), _left(other), strict=True):
        assert a == b, f"other {kind}"


# Past the start-up, where there is nothing to lose, and before the end.
SAVES = [
    *(f"pretrain/{step}" for step in (20, 40, 60)),
    *(f"adapt/{step}" for step in (20, 40, 60)),
]


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_a_random_moment_it_ends_the_same(setting, tmp_path, seed):
    config, whole = setting
    draw = random.Random(seed)
    begun = f"checkpoints/{draw.choice(SAVES)}*"  # also while it is being written
    process = _start(config, tmp_path / "run")
    while process.poll() is None and not list((tmp_path / "run").glob(begun)):
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _start(config, tmp_path / "run").wait() == 0
    _same(tmp_path / "run", whole)


def test_sigterm_saves_and_says_how_to_resume(setting, tmp_path):
    config, whole = setting
    workdir = tmp_path / "run"
    process = _start(config, workdir)
    lines = workdir / "metrics.jsonl"
    while process.poll() is None and (not lines.exists() or len(lines.read_text()) < 10):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "run the same command again to resume" in said and "Traceback" not in said
    assert not (workdir / "result.json").exists()
    assert _start(config, workdir).wait() == 0
    _same(workdir, whole)


def test_a_damaged_checkpoint_falls_back_with_a_warning(setting, tmp_path):
    config, whole = setting
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    (workdir / "result.json").unlink()
    (workdir / "phases" / "adapt" / "ended.json").unlink()  # as of a run that was killed
    newest = max((workdir / "checkpoints" / "adapt").iterdir(), key=lambda path: int(path.name))
    biggest = max(newest.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(biggest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    biggest.write_bytes(content)
    process = _start(config, workdir)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "damaged" in said and "falling back" in said
    _same(workdir, whole)


def test_another_config_is_refused_with_the_fields_that_differ(
    setting, tmp_path, monkeypatch, capsys
):
    config, whole = setting
    other = tmp_path / "other.py"
    other.write_text(config.read_text().replace("clip = 5.0", "clip = 6.0"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["tljax", f"--config={other}", f"--workdir={whole}", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "optimizer.clip (5.0 there, 6.0 here)" in said and said.count("\n") == 1
    assert json.loads((whole / "config.json").read_text())["optimizer"]["clip"] == 5.0
