"""Small files: written whole or not at all, and on disk before anything relies on them."""

import json
import os
from pathlib import Path
from typing import Any

from tljax.errors import UserError


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all; after it not even a power cut leaves half of it.

    Raises:
      OSError: with the name of the file, whatever failed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def _sync(folder: Path) -> None:
    """Puts the names in a folder on disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all; NaN and infinity are not JSON, and raise."""
    write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON file that holds a dictionary with these keys.

    Raises:
      UserError: an empty, cut or damaged file, or one of something else.
      OSError: none there, or not to be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError:  # of JSON or of UTF-8
        value = None
    if not isinstance(value, dict) or any(key not in value for key in keys):
        expected = f"JSON of ours with {' and '.join(map(repr, keys))}" if keys else "JSON of ours"
        raise UserError(f"{path}: expected {expected}; it is empty, cut short or damaged")
    return value
