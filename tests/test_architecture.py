"""The house, floor by floor: every file imports only floors below its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"errors", "memory", "__version__"},
    {"checks", "programs"},
    {"typed"},
    {"half", "masked", "spectra"},
    {"bind", "trees", "losses", "metrics", "solvers"},
    {"balance", "models", "data"},
    {"phase"},
    {"terms"},
    {"report.canvas"},
    {"report.confusion"},
    {"report.figures"},
    {"train"},
    {"experiment"},
    {"report"},
    {"flags"},
    {"main"},
]
# The rooms of some folders, floor by floor.
ROOMS = {
    "phase": [
        "optimizers",
        "phase",
        "transfer",
        "objective",
        "scoring",
        "evaluate",
        "rehearsal fisher",
        "prepare",
    ],
    "train": [
        *("hosts files", "placing records", "gradients", "step checkpoint", "starting lanes best"),
        *("loop", "fitting"),
    ],
    "experiment": [
        *(
            "kinds",
            "fields",
            "check",
            "prompts meeting choice results workdir preprocessing hub weighing",
            "reading",
            "opening card",
            "build",
            "origins",
            "start cache",
            "group",
        ),
        *("run model grid", "sweep soup using", "search export"),
    ],
}
# Lines of a folder, all files together.
BUDGETS = {
    "balance": 460,
    "data": 5400,
    "experiment": 5080,
    "losses": 1300,
    "metrics": 880,
    "models": 4000,
    "phase": 1730,
    "report": 860,
    "solvers": 530,
    "terms": 680,
    "train": 2250,
}
# A library on the left is imported only in the files on the right.
ONLY = {
    "flax": {"models", "phase.objective"},
    "orbax": {"train.checkpoint"},
    "ml_collections": {"experiment", "main"},
    "absl": {"main", "data.streams"},
    "matplotlib": {"report.canvas", "report.figures"},
    "grain": {"data"},
    "rich": {"train.records", "report"},
    "tensorflow_datasets": {"data"},
    "optuna": {"experiment.search"},
    "pydantic": {"experiment"},
    "soundfile": {"data.sound"},
    "soxr": {"data.sound"},
    "tokenizers": {"data.tokens"},
    "jaxtyping": {"typed", "losses", "solvers", "metrics", "balance"},
}
FILES = sorted((ROOT / "tljax").rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "tljax").with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """Everything that a file imports, with the names it takes from packages."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floor(name: str) -> int:
    """The floor of a file, or of the folder that it is in."""
    rooms = [name, name.partition(".")[0]]
    return next(i for room in rooms for i, on in enumerate(FLOORS) if room in on)


@pytest.mark.parametrize("path", [p for p in FILES if module(p) != "__init__"], ids=module)
def test_imports_go_down(path):
    name = module(path)
    room, _, file = name.partition(".")
    for imported in imports(path):
        first, _, rest = imported.partition(".")
        if first == "tljax":
            other, _, inner = rest.partition(".")
            below = floor(".".join(rest.split(".")[:2])) < floor(name)
            assert below or (other == room and within(room, file, inner)), f"{name}: {imported}"
        for library, places in ONLY.items():
            if first == library:
                assert {room, name} & places, f"{name} imports {imported}"


def within(folder: str, file: str, imported: str) -> bool:
    """Whether a file may import another of its folder: in those with floors, from below."""
    if folder not in ROOMS or file == "__init__":
        return True
    floors = {room: i for i, rooms in enumerate(ROOMS[folder]) for room in rooms.split()}
    names = [name for name in imported.split(".") if name in floors]
    return bool(names) and floors[names[0]] < floors[file]


@pytest.mark.parametrize("folder", BUDGETS)
def test_a_folder_keeps_to_its_budget_of_lines(folder):
    files = (ROOT / "tljax" / folder).glob("*.py")
    assert sum(len(path.read_text().splitlines()) for path in files) <= BUDGETS[folder]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= 300


def test_no_two_tests_share_a_name():
    """pytest imports a test by its file's name: a second of the same name is not collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_losses_know_arrays_only():
    """Beside these libraries only the ground floors that check shapes and say what is wrong."""
    known = {"jax", "jaxtyping", "optax"}
    for path in (ROOT / "tljax" / "losses").glob("[!_]*.py"):
        libraries = {name for name in imports(path) if not name.startswith("tljax.")}
        assert {name.split(".")[0] for name in libraries} <= known
