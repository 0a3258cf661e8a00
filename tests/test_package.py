"""`import tljax` is light, and its rooms open when they are asked for."""

import subprocess
import sys

import pytest

import tljax


def test_importing_the_package_imports_no_jax():
    code = "import sys, tljax; assert 'jax' not in sys.modules; tljax.losses.ramp(0.5)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_room():
    with pytest.raises(AttributeError, match="no attribute 'lossses'"):
        _ = tljax.lossses
