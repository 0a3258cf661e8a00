"""`import tljax` is light, its rooms open when they are asked for, and its wheel holds them all."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tljax
from tljax.errors import UserError
from tljax.main import main
from tljax.report import methods

ROOT = Path(__file__).parents[1]


def test_importing_the_package_imports_no_jax():
    code = "import sys, tljax; assert 'jax' not in sys.modules; tljax.losses.ramp(0.5)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_room():
    with pytest.raises(AttributeError, match="no attribute 'lossses'"):
        _ = tljax.lossses


def test_the_wheel_holds_every_file_and_the_configs(tmp_path):
    """`.ci/run` installs it and runs it."""
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    wheels.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__")
    for folder in ("tljax", "configs"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    shipped = {path.relative_to(source) for path in (source / "tljax").rglob("*") if path.is_file()}
    shipped |= {Path("tljax", "configs", path.name) for path in (source / "configs").glob("*.py")}
    assert files == {path.as_posix() for path in shipped}
    assert "tljax/configs/dann.py" in files


def test_the_shipped_configs_can_be_imported():
    code = "from tljax.configs import dann; assert dann.get_config().method == 'DANN'"
    assert subprocess.run([sys.executable, "-c", code], cwd="/").returncode == 0


def test_a_config_is_found_by_its_name_and_a_file_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = str(methods.SHIPPED / "dann.py")
    assert methods.find("dann") == methods.find("dann.py") == shipped
    (tmp_path / "dann").mkdir()  # a workdir, perhaps
    assert methods.find("dann") == shipped
    (tmp_path / "dann.py").write_text("")
    assert methods.find("dann.py") == "dann.py"
    assert methods.find("some/where.py") == "some/where.py"  # whoever reads it says what is wrong
    with pytest.raises(UserError, match="--config: unknown name 'dan'.*Did you mean 'dann'"):
        methods.find("dan")


@pytest.mark.parametrize("named", [["--config=layer_transfer"], ["--config", "layer_transfer.py"]])
def test_the_command_line_takes_names(named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    channels = "--config.network.trunk.channels=(3,5)"
    assert main(["tljax", "params", *named, channels]) == 0
    assert "trunk/conv_1" in capsys.readouterr().out
    assert main(["tljax", "params", "--config=layer_transfr"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tljax: error: --config:") and said.count("\n") == 1
    assert "Did you mean 'layer_transfer'?" in said


def test_configs_lists_what_has_a_config(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["tljax", "configs"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {line[0] for line in lines} == set(methods.names())
    (dann,) = (line for line in lines if line[0] == "dann")
    assert dann[1:3] == ["domain-adversarial", "DANN"]
    assert dann[3].startswith("DANN (Ganin et al. 2016): ")

    (tmp_path / "shared.py").write_text("STEPS = 7\n")
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\nfrom tljax.configs.dann import get_config as dann\n'
        "def get_config():\n    return dann()\n"
    )
    assert main(["tljax", "configs", f"--configs={tmp_path}"]) == 0
    expected = f"{tmp_path / 'mine.py'}\tdomain-adversarial\tDANN\tMine.\n"
    assert capsys.readouterr().out == expected
    (tmp_path / "mine.py").unlink()
    assert main(["tljax", "configs", f"--configs={tmp_path}"]) == 2
    assert "a directory of config files" in capsys.readouterr().err
