"""Makes three tasks of text from the descriptions of Debian's packages.

    python -m experiments.text_tasks.texts [--cache DIR]

`section`: a description, and the section of the archive that it belongs to, one of twelve. `pair`:
the first half of a description and the second of it, or of another of the same section; whether
they belong together. `name`: a description, and where in it the package is named. Each is a
directory for `text:DIR`, of `train.jsonl` (shuffled, so that `train[:200]` is a draw) and
`test.jsonl`. Of the packages made from one source only one is taken, since their descriptions are
alike. The lists come from the archives that apt is set up for; nothing is installed.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.fetched import Made, command, whole
from tljax.errors import UserError

SECTIONS = (  # that say what a program is for, and not in which language it is written
    *("admin", "database", "education", "games", "graphics", "mail"),
    *("math", "net", "science", "sound", "text", "video"),
)
TESTED = 1000  # examples of each task
WITHIN = 200  # characters of a description, in which its package is named
WORDS = (12, 90)  # the least and the most of a description that is taken


class Package(NamedTuple):
    """A package of Debian's."""

    name: str
    section: str
    text: str  # its long description, a line


def packages() -> list[Package]:
    """One package of each source, by name.

    Raises:
      UserError: apt is not there, or reaches no archive.
    """
    lists = {
        "_Packages": ("Package", "Source", "Section"),
        "_Translation-en": ("Package", "Description-en"),
    }
    held: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as there:
        (Path(there) / "partial").mkdir()
        where = [f"Dir::State::lists={there}", "Acquire::Languages=en", "APT::Sandbox::User=root"]
        _apt("apt-get", "update", "-qq", *(word for each in where for word in ("-o", each)))
        for ending, fields in lists.items():
            for path in sorted(Path(there).glob(f"*{ending}*")):
                for entry in entries(_apt("/usr/lib/apt/apt-helper", "cat-file", str(path))):
                    found = held.setdefault(entry["Package"], {})
                    found.update((name, entry[name]) for name in fields if name in entry)
    of_sources: dict[str, Package] = {}
    for name, entry in sorted(held.items()):
        text, section = entry.get("Description-en", ""), entry.get("Section", "")
        source = entry.get("Source", name).partition(" ")[0]
        if WORDS[0] <= len(text.split()) <= WORDS[1]:
            of_sources.setdefault(source, Package(name, section, text))
    return list(of_sources.values())


def _apt(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        raise UserError(
            f"text_tasks: lists of packages cannot be had by apt ({reason}); run it on Debian"
        ) from None


def entries(control: str) -> Iterator[dict[str, str]]:
    """The entries of a control file; of a description its long part alone, as one line."""
    for block in control.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if not line.startswith(" "):
                name, _, value = line.partition(": ")
                fields[name] = "" if name.startswith("Description-en") else value
            elif name == "Description-en" and line.strip() != ".":
                fields[name] = f"{fields[name]} {line.strip()}".strip()
        if fields:
            yield fields


def sections(known: Sequence[Package], rng: random.Random) -> list[dict]:
    """A description and its section."""
    return [
        {"text": each.text, "label": each.section} for each in known if each.section in SECTIONS
    ]


def pairs(known: Sequence[Package], rng: random.Random) -> list[dict]:
    """Two halves, of one description or of two of a section; as many of either."""
    of_section: dict[str, list[Package]] = {}
    for each in known:
        of_section.setdefault(each.section, []).append(each)
    made = []
    for each in known:
        other = rng.choice(of_section[each.section])
        same = other == each or rng.random() < 0.5
        line = {"text": half(each.text)[0], "text_pair": half((each if same else other).text)[1]}
        made.append(line | {"label": "together" if same else "apart"})
    return made


def half(text: str) -> tuple[str, str]:
    """A text cut in the middle, between two words."""
    words = text.split()
    middle = len(words) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


def names(known: Sequence[Package], rng: random.Random) -> list[dict]:
    """A description that holds its package's name once, as a word near its beginning, and where."""
    made = []
    for each in known:
        word = re.escape(each.name)
        found = list(re.finditer(rf"(?<![\w-]){word}(?![\w-])", each.text, re.IGNORECASE))
        if len(found) == 1 and found[0].end() <= WITHIN:
            made.append({"text": each.text, "start": found[0].start(), "end": found[0].end()})
    return made


TASKS = {"section": sections, "pair": pairs, "name": names}


@whole("descriptions")
def tasks(partial: Path, place: Path) -> None:
    """Fills a directory with one for each task.

    Raises:
      UserError: lists that cannot be had.
    """
    known = packages()
    random.Random(0).shuffle(known)
    held = len(known) // 5  # no source is trained on in one task and tested in another
    for name, make in TASKS.items():
        (partial / name).mkdir(parents=True, exist_ok=True)
        test = make(known[:held], random.Random(1))[:TESTED]
        for split, lines in (("train", make(known[held:], random.Random(2))), ("test", test)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (partial / name / f"{split}.jsonl").write_text(text)


MADE: dict[str, Made] = {"descriptions": (tasks, "descriptions of Debian's packages")}

if __name__ == "__main__":
    sys.exit(command(__doc__, "text_tasks", MADE))
