"""Mistakes in a YAML file that people fill in, told as they would be corrected: line, key, and what to write there."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

Lines = Mapping[tuple[str, ...], int]

EXAMPLES: Mapping[str, str] = {
    "versie": '"2026-1"',
    "vastgesteld_op": "2026-01-31",
    "vastgesteld_door": "college van B en W",
    "grondslag": "AVG 6 lid 1 onder e; Participatiewet artikel 7",
    "verwerkingsactiviteit": "VA-012",
    "bewaartermijn_maanden": "24",
    "minimum": "5",
    "afronding": "5",
    "bescherming": "3",
    "herziening_maximaal": "25, or geen",
    "van": "2026-01-31",
    "tot": "2027-01-31",
    "gemeenten": "[GM0518]",
    "provincie": "PV28",
    "memory_limit": "1GB",
}
"""What may stand under a key that was left empty or is wrong; what it should be is the organisation's own say."""

_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), "expected a list, as in [a, b]"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "expected keys below it, each on its line"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    "string_type": "expected text: put it in quotes",
}
"""What pydantic calls a mistake, in the words of who fills in YAML."""


def near(word: str, known: Iterable[str]) -> str:
    """The known word that a misspelt one was probably meant to be, as a question; else all there are; else nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; expected one of: {', '.join(names)}" if names else ""


def key_lines(
    node: yaml.Node | None, prefix: tuple[str, ...] = (), above: frozenset[int] = frozenset()
) -> dict[tuple[str, ...], int]:
    """Line number of every key and list item, by its path; `above` are the nodes that this one stands in."""
    lines: dict[tuple[str, ...], int] = {}
    if id(node) in above:  # an anchor may lead back to what it stands in
        return lines
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            lines[path] = key.start_mark.line + 1
            lines.update(key_lines(value, path, above))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*prefix, str(index))
            lines[path] = value.start_mark.line + 1
            lines.update(key_lines(value, path, above))
    return lines


def keys_at(model: Any, location: Iterable[str]) -> list[str]:
    """The keys that a section may hold; none where it is no section with keys of its own.

    Args:
        model: the model of the whole file.
        location: path of the section.
    """
    kinds = [model]
    for part in location:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    return [name for kind in kinds for leaf in _sections(kind) for name in leaf.model_fields]


def load(text: str) -> Any:
    """What a YAML text says, if it says nothing twice: what a reader sees first is what YAML would drop.

    Raises:
        yaml.YAMLError: no YAML, or a key that stands twice.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, first, second in repeated_keys(node):
        raise yaml.YAMLError(f"line {second}: `{key}` stands on line {first} already: keep one of the two")
    return yaml.safe_load(text)


def repeated_keys(
    node: yaml.Node | None, prefix: tuple[str, ...] = (), above: frozenset[int] = frozenset()
) -> list[tuple[str, int, int]]:
    """Keys that stand twice in one section, of which YAML silently drops the first: path, first line, second line."""
    found: list[tuple[str, int, int]] = []
    if id(node) in above:  # an anchor may lead back to what it stands in
        return found
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                found.append((".".join((*prefix, name)), seen[name], line))
            seen.setdefault(name, line)
            found += repeated_keys(value, (*prefix, name), above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += repeated_keys(value, (*prefix, str(index)), above)
    return found


def told(mistake: Any) -> str:
    """One of pydantic's errors in the words of who fills in YAML, with an example where there is one."""
    location = tuple(str(part) for part in mistake["loc"])
    key = next((part for part in reversed(location) if not part.isdigit()), "")
    if mistake["type"] == "string_pattern_mismatch":
        if key in EXAMPLES:
            return f"expected a text such as {EXAMPLES[key].strip('[]')}"
        return f"expected a text of the form {mistake['ctx']['pattern']}"
    if mistake["type"] == "too_short":
        return f"expected at least {mistake['ctx']['min_length']}"
    said: str = _WORDS.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
    return said


def explain(path: Path | str, error: ValidationError, model: type[BaseModel]) -> str:
    """One line per mistake: file, line, key, and what to do. No value of the file is repeated but in the model's words.

    Args:
        path: the file, of valid YAML; or what to call a mapping that stands in none.
        error: what its model found.
        model: that model.
    """
    text = path.read_text(encoding="utf-8") if isinstance(path, Path) else ""
    lines = key_lines(yaml.compose(text, Loader=yaml.SafeLoader))
    # a union tells of each of its kinds
    return "\n".join(dict.fromkeys(_one(path, mistake, model, lines) for mistake in error.errors(include_url=False)))


def _one(path: Path | str, mistake: Any, model: type[BaseModel], lines: Lines) -> str:
    location = tuple(str(part) for part in mistake["loc"])
    known = next((location[:n] for n in range(len(location), 0, -1) if location[:n] in lines), ())
    where = f"{path}, line {lines[known]}" if known else str(path)
    key = ".".join(location)
    if mistake["type"] == "extra_forbidden":
        return f"{where}: `{key}` is not a key here{near(location[-1], keys_at(model, location[:-1]))}"
    if mistake["type"] == "missing":
        return f"{where}: `{key}` is missing: add it{_example(location)}"
    if known and location[len(known) :]:  # what comes after is pydantic's name of a kind in a union
        location, key = known, ".".join(known)
    if mistake["input"] is None:
        section = ", ".join(keys_at(model, location))
        what = f" (it holds: {section})" if section else _example(location)
        return f"{where}: fill in `{key}`{what}" if key else f"{path} is empty: it holds {section}"
    return f"{where}: {f'`{key}`: ' if key else ''}{told(mistake)}"


def _example(location: tuple[str, ...]) -> str:
    return f" (for example {EXAMPLES[location[-1]]})" if location[-1] in EXAMPLES else ""


def _below(kind: Any, part: str) -> list[Any]:
    """What stands under a key of a section, a mapping or a list; a union may be any of its parts."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(part)
        return [field.annotation] if field else []
    origin, within = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        below = [below for each in within for below in _below(each, part)]
        # pydantic puts the tag of a tagged union in the path
        return below or [each for each in within if _is_tagged(each, part)]
    if origin is typing.Annotated:
        return _below(within[0], part)
    return [within[1 if origin is dict else 0]] if origin in (dict, list, tuple) else []


def _is_tagged(kind: Any, tag: str) -> bool:
    fields = kind.model_fields.values() if isinstance(kind, type) and issubclass(kind, BaseModel) else ()
    return any(tag in typing.get_args(field.annotation) for field in fields)


def _sections(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type):
        return [kind] if issubclass(kind, BaseModel) else []
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return [section for each in typing.get_args(kind) for section in _sections(each)]
    return []
