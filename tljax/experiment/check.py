"""A config checked against the schema: one line for the first mistake; and fields set by path."""

import ast
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from tljax import trees
from tljax.errors import UserError, unknown, wrong
from tljax.experiment.fields import (
    PHASE_FIELDS,
    Config,
    ConfigFields,
    PhaseFields,
    blank,
    plain,
)
from tljax.experiment.kinds import choices, expected, inner

DEEPEST = 30


class Checked(NamedTuple):
    """A config that has been checked."""

    plain: dict[str, Any]  # dictionaries, as `config.json` holds them
    fields: ConfigFields
    phases: dict[str, PhaseFields]  # what each phase leaves out filled in


def check(config: Config) -> Checked:
    """Every field known, every value of its type and in its range.

    Raises:
      UserError: naming the first field that is wrong, with its phase.
    """
    fields = plain(config)
    _check_names(fields, "")
    phases = _phases(fields)
    for name in fields:
        if name not in ConfigFields.model_fields and name not in phases:
            raise unknown("config", name, (*ConfigFields.model_fields, *phases))
    top = {name: fields[name] for name in ConfigFields.model_fields}
    checked, own = _validated(ConfigFields, top, ""), {}
    for name in phases:
        section = fields.get(name)
        if not isinstance(section, Mapping):
            raise wrong(name, section, f"dict(...) of {PHASE_FIELDS}, named in phases")
        for field in section:
            if field not in PHASE_FIELDS:
                raise unknown(name, field, PHASE_FIELDS)
        merged = {field: section.get(field, top[field]) for field in PHASE_FIELDS}
        own[name] = _validated(PhaseFields, merged, f"{name}.")
    own = own or {"train": PhaseFields(**{name: getattr(checked, name) for name in PHASE_FIELDS})}
    for name, phase in own.items():
        if not phase.steps and not phase.prepare and not phase.start:
            expected = "an integer of at least 1, or something to prepare, or start= another run"
            raise wrong(place(name, "steps"), 0, expected)
    for field in ("streams", "evaluate"):
        if not fields[field]:
            raise wrong(field, fields[field], 'at least one: dict(NAME=dict(data="digits", …))')
    for path, leaf in trees.flatten(fields).items():
        if isinstance(leaf, float) and not math.isfinite(leaf):  # JSON has no other
            raise wrong(path.replace("/", "."), leaf, "a finite number")
    return Checked(fields, checked, own)


def resolve(config: Config) -> dict[str, Any]:
    """A config as plain dictionaries, checked; see `check`."""
    return check(config).plain


def _check_names(tree: Any, path: str) -> None:
    """Refuses what is named by anything but a string, anywhere in a config."""
    for name, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        if isinstance(tree, Mapping) and not isinstance(name, str):
            raise wrong(path or "config", name, "names that are strings")
        if isinstance(value, Mapping | list | tuple):
            if path.count(".") > DEEPEST:
                place = ".".join(path.split(".")[:5])
                raise wrong(place, value, f"at most {DEEPEST} sections in another")
            _check_names(value, f"{path}.{name}" if path else str(name))


def _phases(fields: Mapping[str, Any]) -> tuple[str, ...]:
    phases = fields["phases"]
    if not isinstance(phases, list | tuple) or not all(isinstance(name, str) for name in phases):
        raise wrong("phases", phases, "names of phases: ('pretrain', 'adapt')")
    for i, name in enumerate(phases):
        taken = (*ConfigFields.model_fields, "fresh")
        if name in taken or not name.isidentifier() or name in phases[:i]:
            expected = "a name of its own for each phase: no field's, not 'fresh', no signs in it"
            raise wrong(f"phases[{i}]", name, expected)
    return tuple(phases)


def place(phase: str, field: str) -> str:
    """Where a field of a phase stands: a config without phases has it at the top."""
    return field if phase == "train" else f"{phase}.{field}"


def _validated(model: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """The section's fields, or the first mistake of them in one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refusal(model, error.errors(include_url=False)[0], prefix) from None


def _refusal(model: Any, error: Any, prefix: str) -> UserError:
    """The line for one of pydantic's errors: the field, its value, and what was expected."""
    section: Any = model
    info, names = None, []
    for key in error["loc"]:
        if section is None:
            break  # within the value of a field
        names.append(str(key))
        if isinstance(section, tuple):  # sections by name
            section, info = section[0], None
        elif key in section.model_fields:
            info = section.model_fields[key]
            section = inner(info.annotation)
        else:
            return unknown(prefix + ".".join(names[:-1]), key, section.model_fields)
    field, value = prefix + ".".join(names), error["input"]
    if info is not None and error["type"] == "literal_error" and isinstance(value, str):
        return unknown(field, value, [choice for choice in choices(info.annotation) if choice])
    if info is None and section is not None and not isinstance(section, tuple):
        takes = f"dict(...) of the fields {', '.join(sorted(section.model_fields))}"
    else:
        takes = expected(info, value)
    return wrong(field, value, takes)


def change(config: Mapping[str, Any], path: str, value: Any, flag: str) -> dict[str, Any]:
    """A config, as plain dictionaries, with one field set, whether a file wrote it or not.

    Args:
      config: plain.
      path: "terms.domain.weight", "streams.target.transforms.0.strength".
      value: of the field.
      flag: "--over" or "--config", for error messages.

    Raises:
      UserError: a section, stream, term or phase that is not there. (Fields are checked with the
        whole config.)
    """
    keys = path.replace("[", ".").replace("]", "").split(".")
    config = {**blank().to_dict(), **config}
    phases = tuple(config["phases"]) if isinstance(config["phases"], list | tuple) else ()
    if keys[0] not in config:
        raise unknown(f"{flag} {path}: config", keys[0], (*ConfigFields.model_fields, *phases))
    if keys[0] in phases and len(keys) > 2 and keys[1] in PHASE_FIELDS:
        # A phase that does not have the field itself has that of the top level.
        config[keys[0]] = {keys[1]: config[keys[1]], **config[keys[0]]}
    return _changed(config, keys, value, f"{flag} {path}", ())


def _changed(tree: Any, keys: list[str], value: Any, field: str, above: tuple[str, ...]) -> Any:
    """The tree with a new value at the keys; only fields of sections are added."""
    key, rest = keys[0], keys[1:]
    here = ".".join(above) or "config"
    if isinstance(tree, list | tuple):
        if not key.isdigit() or int(key) >= len(tree):
            raise unknown(f"{field}: {here}", key, map(str, range(len(tree))))
        at = int(key)
        changed = _changed(tree[at], rest, value, field, (*above, key)) if rest else value
        return (*tree[:at], changed, *tree[at + 1 :])
    if not isinstance(tree, Mapping):
        # A weight or a name that stands for a section: terms.label=1.0, schedule="cosine".
        tree = {"weight" if isinstance(tree, int | float) else "name": tree}
    if rest and key not in tree:
        raise unknown(f"{field}: {here}", key, tree)
    if not rest:
        before = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(before, str) and isinstance(value, bool | int | float):
            value = str(value)
        if isinstance(before, float) and type(value) is int:
            value = float(value)  # or 1 and 1.0 would be two members of a sweep
        return {**tree, key: value}
    return {**tree, key: _changed(tree[key], rest, value, field, (*above, key))}


def literal(text: str) -> Any:
    """A value as it is typed: a Python literal, true or false, or else a string."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
