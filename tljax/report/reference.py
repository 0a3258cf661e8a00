"""`docs/fields.md`: every field of a config, from the schema. `python -m tljax.report.reference`"""

import inspect
from pathlib import Path
from typing import Any

from tljax.balance import BALANCERS
from tljax.bind import defaults, limits
from tljax.data.mixing import MIXES
from tljax.data.transforms import TRANSFORMS
from tljax.data.views import VIEWS
from tljax.experiment.fields import (
    PHASE_FIELDS,
    ConfigFields,
    EvaluationFields,
    MeshFields,
    NetworkFields,
    PhaseFields,
    SelectFields,
    StreamFields,
    TableFields,
)
from tljax.experiment.kinds import expected
from tljax.models.adapters import ADAPTERS
from tljax.models.heads import HEADS
from tljax.models.stems import STEMS
from tljax.models.trunks import TRUNKS
from tljax.phase.optimizers import OPTIMIZERS, SCHEDULES
from tljax.phase.prepare import PREPARATIONS
from tljax.terms import TERMS

WEIGHERS = {name: balancer.weigh for name, balancer in BALANCERS.items()}
FUNCTIONS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("terms.NAME, `term=`, beside weight and ramp", TERMS, ("view",)),
    ("optimizer, `name=`", OPTIMIZERS, ("rate", "mask")),
    ("optimizer.schedule, `name=`", SCHEDULES, ("progress",)),
    ("transforms, `name=`", TRANSFORMS, ("image", "key", "held_out", "mask")),
    ("view, `name=`", VIEWS, ("image", "rng")),
    ("mix, `name=`", MIXES, ("images", "key")),
    ("prepare.NAME, `solver=`", PREPARATIONS, ("context",)),
    ("adapters.NAME, `name=`", ADAPTERS, ()),
    ("network.trunk, `name=`", TRUNKS, ("parent", "name")),
    ("network.heads.NAME, `name=`", HEADS, ("parent", "name")),
    ("network.stems.NAME, `name=`", STEMS, ("parent", "name")),
    ("balance, `name=`, beside tasks and shared", WEIGHERS, ("state", "losses", "gramian", "key")),
)


def reference() -> str:
    """The page: every field of a config, what it takes, its default and its meaning."""
    sections: dict[str, tuple[Any, Any]] = {
        "": (ConfigFields, "The top level, which holds the fields of its one phase as well."),
        "PHASE": (PhaseFields, PhaseFields.__doc__),
        "PHASE.select": (SelectFields, SelectFields.__doc__),
        "streams.NAME": (StreamFields, StreamFields.__doc__),
        "evaluate.NAME": (EvaluationFields, EvaluationFields.__doc__),
        "tables.NAME": (TableFields, TableFields.__doc__),
        "network": (NetworkFields, NetworkFields.__doc__),
        "mesh": (MeshFields, MeshFields.__doc__),
    }
    lines = [
        "# Fields of a config",
        "",
        "Written by `python -m tljax.report.reference`. Each can be set in a config file, by",
        "`--config.FIELD=VALUE`, and swept by `--over FIELD=VALUES`.",
    ]
    for name, (model, text) in sections.items():
        lines += ["", f"## {name or 'config'}", "", str(text).partition("\n")[0], ""]
        lines += ["| field | takes | default | meaning |", "| --- | --- | --- | --- |"]
        for field, info in model.model_fields.items():
            if not name and field in PHASE_FIELDS:
                continue
            default = info.get_default(call_default_factory=True)
            cells = (f"`{field}`", expected(info), f"`{default!r}`", info.description)
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    for title, functions, skip in FUNCTIONS:
        lines += ["", f"## {title}", "", "| name | fields | take | meaning |"]
        lines += ["| --- | --- | --- | --- |"]
        for name, function in functions.items():
            fields = [
                field if default is inspect.Parameter.empty else f"{field}={default!r}"
                for field, default in defaults(function, skip).items()
            ]
            ranges = limits(function, skip).items()
            takes = "; ".join(f"`{field}` {_short(limit)}" for field, limit in ranges)
            meaning = str(function.__doc__).strip().partition("\n")[0]
            row = (f"`{name}`", f"`{', '.join(fields)}`" if fields else "", takes, meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _short(limit: str) -> str:
    """A range as a table has room for."""
    for words, sign in (("of at least", "≥"), ("above", ">"), ("one of", "")):
        limit = limit.replace(words, sign)
    for kind in ("a finite number ", "a number "):
        limit = limit.removeprefix(kind)
    return limit.strip()


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "fields.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(reference())
