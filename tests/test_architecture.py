"""The house, floor by floor: every file imports only floors below its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"errors"},
    {"checks"},
    {"typed"},
    {"signature", "trees", "balance", "losses", "metrics", "solvers"},
    {"models", "data", "transfer"},
    {"objective"},
    {"terms"},
    {"evaluate", "train"},
    {"opening", "prepare", "plots", "results"},
    {"assembly"},
    {"starting"},
    {"running"},
    {"experiment", "batch"},
    {"sweep", "report"},
    {"methods", "inventory", "search"},
    {"main"},
]
# A library on the left is imported only in the files on the right.
ONLY = {
    "flax": {"models", "objective"},
    "orbax": {"train.checkpoint"},
    "ml_collections": {"experiment", "inventory", "sweep", "search", "main"},
    "absl": {"main", "data.streams"},
    "matplotlib": {"plots"},
    "grain": {"data", "train.loop"},
    "rich": {"train.records", "methods", "inventory", "report"},
    "tensorflow_datasets": {"data"},
    "optuna": {"search"},
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


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", [p for p in FILES if module(p) != "__init__"], ids=module)
def test_imports_go_down(path):
    room = module(path).split(".")[0]
    for name in imports(path):
        first, _, rest = name.partition(".")
        if first == "tljax":
            other = rest.split(".")[0]
            assert other == room or floor(other) < floor(room), f"{module(path)} imports {name}"
        for library, places in ONLY.items():
            if first == library:
                assert {room, module(path)} & places, f"{module(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= 300


def test_losses_know_arrays_only():
    """Beside these libraries only the ground floors that check shapes and say what is wrong."""
    for path in (ROOT / "tljax" / "losses").glob("[!_]*.py"):
        libraries = {name for name in imports(path) if not name.startswith("tljax.")}
        assert {name.split(".")[0] for name in libraries} <= {"jax", "jaxtyping", "optax"}
