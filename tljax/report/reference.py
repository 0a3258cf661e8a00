"""`docs/fields.md`: every field of a config, from the schema. `python -m tljax.report.reference`"""

from pathlib import Path
from typing import Any

from tljax.experiment.fields import (
    PHASE_FIELDS,
    ConfigFields,
    EvaluationFields,
    MeshFields,
    NetworkFields,
    PhaseFields,
    StreamFields,
    TableFields,
    expected,
)


def reference() -> str:
    """The page: every field of a config, what it takes, its default and its meaning."""
    sections: dict[str, tuple[Any, Any]] = {
        "": (ConfigFields, "The top level, which holds the fields of its one phase as well."),
        "PHASE": (PhaseFields, PhaseFields.__doc__),
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
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "fields.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(reference())
