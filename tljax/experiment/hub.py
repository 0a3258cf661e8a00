"""Weights of the Hugging Face hub, through the extra `hub`: the file, its revision, its licence."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from tljax.errors import UserError

FILES = ("model.safetensors", "pytorch_model.bin")  # the first that a repository has


class Fetched(NamedTuple):
    """What was fetched of a repository."""

    path: Path  # of the weights
    revision: str  # the hash of the commit
    licence: str  # as its page says; "": it says nothing
    images: str  # what it expects, in words; "": it says nothing

    def told(self) -> str:
        """All that its user should know, in a line."""
        return (
            f"revision {self.revision}{self.images and f', expects {self.images}'}; "
            f"licence: {self.licence or 'not stated'}"
        )


def fetch(where: str) -> Fetched:
    """The weights of `REPO[@REVISION]`, from the hub or its cache.

    Raises:
      UserError: no such repository, file or revision, no network, or no `huggingface_hub`: what to
        download, and how to name it.
    """
    repo, _, revision = where.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise UserError("expected OWNER/NAME of a repository, perhaps @REVISION after it")
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise _by_hand("huggingface_hub is not installed; pip install 'tljax[hub]'", repo) from None

    def file(name: str) -> Path | None:
        """A file of the repository; None if it has none of this name."""
        try:
            fetched = huggingface_hub.hf_hub_download(repo, name, revision=revision or None)
        except LocalEntryNotFoundError as error:  # it is not in the cache, and there is no network
            if name in FILES:
                raise _by_hand(f"no network ({_line(error)})", repo, name) from None
            return None
        except EntryNotFoundError:
            return None
        except Exception as error:  # of the network, of a repository that is not there or is gated
            raise _by_hand(_line(error), repo, name) from None
        return Path(fetched)

    path = next(filter(None, map(file, FILES)), None)
    if path is None:
        raise UserError(f"expected a repository with {' or '.join(FILES)}; {repo} has neither")
    return Fetched(path, path.parent.name, _licence(file("README.md")), _images(file))


def _by_hand(reason: str, repo: str, name: str = FILES[0]) -> UserError:
    return UserError(
        f"{reason}. Or download {name} of {repo} from the Hugging Face hub by other means, put it "
        "where this machine can read it, and name it: 'weights:PATH/TO/" + name + "'"
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _licence(page: Path | None) -> str:
    """The licence in the front matter of a repository's page."""
    text = page.read_text(errors="replace") if page else ""
    front = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = re.search(r"^licen[sc]e:\s*[\"']?([^\s\"']+)", front, re.MULTILINE)
    return found[1] if found else ""


def _images(file: Any) -> str:
    """What images a model expects, as timm or transformers write it down."""
    timm = _json(file("config.json")).get("pretrained_cfg", {})
    theirs = {} if timm else _json(file("preprocessor_config.json"))
    size = timm.get("input_size") or theirs.get("crop_size") or theirs.get("size")
    means, stds = (timm.get(key) or theirs.get(f"image_{key}") for key in ("mean", "std"))
    told = [f"images in [0, 1] of size {size}"] if size else []
    told += [f"less {means}, divided by {stds}"] if means and stds else []
    told += (
        [f"{timm['interpolation']}, crop {timm.get('crop_pct')}"] if "interpolation" in timm else []
    )
    return ", ".join(told)


def _json(path: Path | None) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text()) if path else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
