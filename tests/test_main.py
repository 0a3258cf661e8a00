"""The command line: what a person types, and what a mistake is answered with."""

import gzip
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tljax.main import main
from tljax.report import methods

ROOT = Path(__file__).parents[1]

SMALL = (
    "steps=4",
    "log_every=2",
    "evaluate_every=2",
    "checkpoint_every=2",
    "figures=False",
    "network.trunk.channels=(4,4)",
    "network.heads.label.hidden=(8,)",
    "streams.source.batch=8",
)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    path = list(sys.path)
    yield
    sys.path[:] = path


def tljax(*arguments: str, config: str = "source_only", workdir: Path | str, small: bool = True):
    overrides = [f"--config.{each}" for each in (SMALL if small else ())]
    return main(
        ["tljax", f"--config=configs/{config}.py", f"--workdir={workdir}", *overrides, *arguments]
    )


def refused(capsys, *needles: str) -> None:
    """What was printed is one line that holds all of these."""
    captured = capsys.readouterr()
    assert captured.err.startswith("tljax: error: ") and captured.err.count("\n") == 1, captured.err
    for needle in needles:
        assert needle in captured.err


def test_a_run_leaves_everything(tmp_path, capsys):
    assert tljax("--config.figures=True", workdir=tmp_path / "run") == 0
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {
        "config.json", "metrics.jsonl", "checkpoints", "phases", "figures", "timing.json",
        "result.json", "data.json", ".lock", "README.md", "predictions.npz",
    }  # fmt: skip
    records = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
    kinds = [(record["step"], record["kind"]) for record in records]
    assert kinds == [(s, k) for s in (2, 4) for k in ("train", "source", "target")]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    target = result["evaluations"]["target"]
    confusion = np.array(target["confusion"])
    assert confusion.sum() == target["examples"] == 397
    assert target["accuracy"] == pytest.approx(np.trace(confusion) / 397)
    with np.load(tmp_path / "run" / "predictions.npz") as kept:
        cells = kept["target/true"] * 10 + kept["target/predicted"]
        assert (np.bincount(cells, minlength=100).reshape(10, 10) == confusion).all()
        assert len(kept["source/predicted"]) == result["evaluations"]["source"]["examples"]
    printed = capsys.readouterr().out
    assert f"target\t{target['accuracy']:.4f}" in printed  # not a terminal: plain, tab-separated

    # The same command again only reads.
    before = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    assert tljax("--config.figures=True", workdir=tmp_path / "run") == 0
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == before
    assert f"target\t{target['accuracy']:.4f}" in capsys.readouterr().out


def test_help_needs_no_jax():
    code = (
        "import sys; from tljax.main import main; assert main(['tljax', '--help']) == 0; "
        "assert not {'jax', 'flax', 'sklearn', 'tensorflow_datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout and "--workdir" in done.stdout and "methods" in done.stdout


def test_methods_lists_every_config_in_its_cell(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["tljax", "methods"]) == 0
    printed = capsys.readouterr().out
    for name in methods.names():
        assert f": {name}" in printed
    assert "domain-adversarial" in printed and "self-taught clustering" in printed


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        (["--config.stpes=3"], ["stpes", "steps"]),
        (["--config.terms.label.wieght=1"], ["wieght", "weight"]),
        (["--config.terms.label.term=cross_entrpy"], ["cross_entrpy", "'cross_entropy'"]),
        (["--config.terms.label.term=no.module:f"], ["terms.label.term", "no.module"]),
        (["--config.terms.label.weight=-1"], ["terms.label.weight", "-1", "at least 0"]),
        (["--config.terms.label.stream=sorce"], ["terms.label", "sorce", "'source'"]),
        (["--config.streams.source.data=digts"], ["streams.source.data", "digts", "'digits'"]),
        (["--config.streams.source.split=trian[:9]"], ["source.split", "trian", "'train'"]),
        (["--config.streams.source.split=train[:120%]"], ["streams.source.split", "120%"]),
        (["--config.streams.source.split=train[50:20]"], ["streams.source.split", "50:20"]),
        (["--config.streams.source.split=train[:9999]"], ["streams.source.split", "9999"]),
        (["--config.streams.source.batch=601"], ["streams.source.batch", "601", "600"]),
        (["--config.streams.source.batch=0"], ["streams.source.batch", "0"]),
        (["--config.network.trunk.name=cn"], ["network.trunk.name", "'cn'", "'cnn'"]),
        (["--config.network.trunk.channels=(0,)"], ["network.trunk.channels", "0"]),
        (["--config.network.heads.label.name=mpl"], ["network.heads.label.name", "'mlp'"]),
        (["--config.terms.label.heat=label"], ["terms.label", "heat", "'head'"]),
        (["--config.evaluate.target.transforms[0].name=fotos"], ["evaluate.target", "fotos"]),
        (["--config.optimizer.name=sdg"], ["optimizer.name", "sdg", "'sgd'"]),
        (["--config.optimizer.schedule.name=cosin"], ["optimizer.schedule", "cosin"]),
        (["--config.optimizer.learning_rate=-1"], ["optimizer.learning_rate", "-1"]),
        (["--config.statistics=each"], ["statistics", "each", "joint"]),
        (["--config.steps=0"], ["steps", "0", "at least 1"]),
        (["--config.average=1.0"], ["average", "1.0"]),
        (["--config.seed=abc"], ["seed", "abc"]),
        (["--config.train=(('trunc/**',0.0),('**',1.0))"], ["train", "trunc/**", "trunk/conv_0"]),
        (["--config.train=(('**',0.0),)"], ["train", "freezes every parameter"]),
        (["--config.start=(('**','pretrain'),)"], ["start", "pretrain", "fresh"]),
        (["--confg=x"], ["confg", "config"]),
        (["methds"], ["command", "methds", "'methods'"]),
    ],
)
def test_a_mistake_gets_one_line(arguments, needles, tmp_path, capsys):
    assert tljax(*arguments, workdir=tmp_path / "run") == 2
    refused(capsys, *needles)


def test_missing_or_broken_config_file(tmp_path, capsys):
    assert main(["tljax", "--config=configs/dan.py", f"--workdir={tmp_path}"]) == 2
    refused(capsys, "configs/dan.py")
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return 1 / 0\n")
    assert main(["tljax", f"--config={broken}", f"--workdir={tmp_path}"]) == 2
    refused(capsys, "config", "division by zero")


def test_labels_of_an_unlabelled_stream_cannot_be_read(tmp_path, capsys):
    assert tljax("--config.terms.label.stream=target", config="dann", workdir=tmp_path / "r") == 2
    refused(capsys, "terms.label", "stream 'target'", "declared unlabelled")


def _idx(path: Path, array: np.ndarray) -> None:
    kind = 0x08 if array.dtype == np.uint8 else 0x0D
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def damaged(tmp_path):
    """Data with one thing wrong each; the key tells what the error must say."""
    images = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), np.uint8)
    labels = np.arange(20) % 10
    made = {}

    def npz(name, **arrays):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return f"npz:{tmp_path / name}.npz"

    spoilt = images.astype(np.float32) / 255
    spoilt[7, 3, 3] = np.nan
    made["NaN"] = npz("nan", images=spoilt, labels=labels)
    made["-1"] = npz("negative", images=images, labels=labels - 1)
    made["pickle"] = npz("pickled", images=np.array([{}] * 20, object), labels=labels)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "negative.npz").read_bytes()[:200])
    made["torn.npz"] = f"npz:{tmp_path}/torn.npz"
    made["nowhere"] = f"folder:{tmp_path}/nowhere"
    idx = tmp_path / "idx"
    idx.mkdir()
    _idx(idx / "train-images-idx3-ubyte.gz", images[..., 0])
    whole = (idx / "train-images-idx3-ubyte.gz").read_bytes()
    (idx / "train-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
    _idx(idx / "train-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    made["train-images-idx3-ubyte.gz"] = f"idx:{idx}"
    for name in ("torn", "shapes"):
        for i in range(20):
            path = tmp_path / name / str(i % 10) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            side = 16 if name == "torn" or i else 12
            Image.fromarray(images[i, :side]).save(path)
    (tmp_path / "torn" / "3" / "13.png").write_bytes(b"not a picture")
    made["13.png"] = f"folder:{tmp_path}/torn"
    made["size="] = f"folder:{tmp_path}/shapes"
    return made


@pytest.mark.parametrize(
    "needle",
    ["NaN", "-1", "pickle", "torn.npz", "nowhere", "train-images-idx3-ubyte.gz", "13.png", "size="],
)
def test_damaged_data_gets_one_line(damaged, needle, tmp_path, capsys):
    code = tljax(
        f"--config.streams.source.data={damaged[needle]}",
        "--config.streams.source.split=train",
        *(["--config.streams.source.size=None"] if needle == "size=" else []),
        workdir=tmp_path / "run",
    )
    assert code == 2
    refused(capsys, "streams.source", needle)


def test_a_class_missing_in_a_few_shot_draw(tmp_path, capsys):
    config = tmp_path / "few.py"
    config.write_text(
        "from configs.source_only import get_config as base\n"
        "def get_config():\n    config = base()\n    config.streams.source.per_class = 5\n"
        "    config.streams.source.split = 'train[:20]'\n    return config\n"
    )
    assert main(["tljax", f"--config={config}", f"--workdir={tmp_path / 'run'}"]) == 2
    refused(capsys, "streams.source.per_class", "5", "class")


def test_a_head_that_the_network_lacks(tmp_path, capsys):
    config = tmp_path / "headless.py"
    config.write_text(
        "from configs.source_only import get_config as base\n"
        "def get_config():\n    config = base()\n    config.terms.label.head = 'labl'\n"
        "    return config\n"
    )
    assert main(["tljax", f"--config={config}", f"--workdir={tmp_path / 'run'}"]) == 2
    refused(capsys, "terms.label", "labl", "'label'")


def test_labels_without_an_output(tmp_path, capsys):
    config = tmp_path / "narrow.py"
    config.write_text(
        "from configs.source_only import get_config as base\n"
        "def get_config():\n    config = base()\n    config.network.heads.label.outputs = 7\n"
        "    return config\n"
    )
    assert main(["tljax", f"--config={config}", f"--workdir={tmp_path / 'run'}"]) == 2
    refused(capsys, "evaluate.", "label 9", "from 0 to 6", "network.heads.label.outputs")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path, capsys):
    (tmp_path / "fading.py").write_text(
        "import jax.numpy as jnp\n"
        "def term(view):\n"
        "    z = view.features['source']\n"
        "    return jnp.sqrt(0.6 - view.progress) * (z * z).mean()\n"
    )
    config = tmp_path / "nan.py"
    config.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from configs.source_only import get_config as base\n"
        "def get_config():\n    config = base()\n"
        "    config.terms.fading = dict(term='fading:term', weight=1.0)\n    return config\n"
    )
    arguments = [f"--config.{each}" for each in (*SMALL, "steps=20")]
    run = tmp_path / "run"
    assert main(["tljax", f"--config={config}", f"--workdir={run}", "--quiet", *arguments]) == 2
    refused(capsys, "fading was not finite at step 13", "last checkpoint is kept")
    saved = {int(path.name) for path in (run / "checkpoints" / "train").iterdir()}
    assert max(saved) == 12 and not (run / "result.json").exists()


def test_foreign_and_unwritable_workdirs_are_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert tljax(workdir=tmp_path) == 2
    refused(capsys, "workdir", "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert tljax(workdir=tmp_path / "thesis.tex" / "run") == 2
    refused(capsys, "workdir", "directory to write in")


def test_a_full_disk_is_told_and_the_run_can_go_on(tmp_path):
    """No file may grow past a limit: the kernel refuses the write as it does on a full disk."""
    command = [sys.executable, "-c", "from tljax.main import script; script()"]
    command += ["--config=configs/source_only.py", f"--workdir={tmp_path / 'run'}", "--quiet"]
    command += [f"--config.{each}" for each in (*SMALL, "network.heads.label.hidden=(2000,)")]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    # A user's own directory of compiled programs, which is as full.
    environment["XDG_CACHE_HOME"] = str(tmp_path / "home")
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"):
        del environment[name]
    full = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=limit
    )
    assert full.returncode == 2, full.stderr
    *warned, line = full.stderr.splitlines()
    assert line.startswith("tljax: error: workdir: cannot save ")
    assert "resume" in line and "large" in line
    assert warned and all(each.startswith("tljax: warning: a compiled program") for each in warned)
    after = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert after.returncode == 0 and after.stderr == ""
    assert (tmp_path / "run" / "result.json").exists()
    shutil.rmtree(tmp_path / "run")
