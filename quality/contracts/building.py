"""A contract as it stands with what it builds on, so that a fact has one owner also where deliveries are alike.

Belongs here: putting the documents together. Does not belong here: what they say (quality.contracts.model).

`zoals: jw301` among the `customProperties` of a contract: it has all that jw301 has, but for what it says itself.
Objects are taken together field by field, and lists of what has a name (columns, rules, properties) item by item; any
other value stands in the place of the other's. `codes: {zoals: jw301.productcategorie}`: the code list of that column.
The other contract is one beside it, else a shipped one, and does not itself build on a third for what is taken of it.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from quality.contracts.model import SHIPPED, ContractError

AS = "zoals"


def whole(path: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """The document of a contract with all that it builds on, and the files that it came from, its own first.

    Raises:
        ContractError: a file is missing or no YAML, or what is referred to is not there.
    """
    files, document = [path], _parsed(path)
    if (name := _custom(document).get(AS)) is not None:
        base = _file(path, str(name))
        files.append(base)
        below = _parsed(base)
        if AS in _custom(below):
            raise ContractError(f"{path}: it builds on {name}, which builds on another itself: name that one")
        _forget_name(below)
        document = _together(below, document)
    for column in _columns(document):
        for item in column.get("customProperties") or ():
            if item.get("property") == "codes" and isinstance(item.get("value"), dict) and AS in item["value"]:
                item["value"], owner = _owned(path, str(item["value"][AS]))
                files.append(owner)
    return document, tuple(dict.fromkeys(files))


def _forget_name(document: dict[str, Any]) -> None:
    """Take the name of the table, which will have another, from the columns that refer from it."""
    for table in document.get("schema") or ():
        for relation in table.get("relationships") or ():
            own = relation.get("from")
            names = [own] if isinstance(own, str) else own or []
            relation["from"] = [str(name).removeprefix(f"{table.get('name')}.") for name in names]


def _owned(path: Path, reference: str) -> tuple[dict[str, Any], Path]:
    """The code list that a column of another contract owns, and the file of that."""
    name, _, column = reference.partition(".")
    owner = _file(path, name)
    found = {item.get("name"): item for item in _columns(_parsed(owner))}.get(column)
    codes = {item.get("property"): item.get("value") for item in (found or {}).get("customProperties") or ()}.get(
        "codes"
    )
    if not isinstance(codes, dict) or AS in codes:
        raise ContractError(f"{path}: codes: {AS}: `{reference}` is no column that owns a code list")
    return codes, owner


def _file(path: Path, name: str) -> Path:
    for folder in (path.parent, SHIPPED):
        found = folder / f"{Path(name).name}.yaml"
        if found.stem == name and found != path and found.is_file():
            return found
    raise ContractError(f"{path}: {AS}: no other contract is called `{name}`, beside it or shipped")


def _parsed(path: Path) -> dict[str, Any]:
    """A copy of what stands in a file, so that whoever gets it may change it."""
    try:
        found = _yaml(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise ContractError(f"{path} cannot be read ({error.strerror}): check the path") from None
    if not isinstance(found, dict):
        raise ContractError(f"{path}: expected kind DataContract, id `{path.stem}` and one table under `schema`")
    return deepcopy(found)


@lru_cache(maxsize=256)
def _yaml(path: Path, _stamp: int) -> Any:
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ContractError(f"{path}{f', line {mark.line + 1}' if mark else ''}: not valid YAML") from None


def _custom(document: dict[str, Any]) -> dict[Any, Any]:
    listed = document.get("customProperties")
    items = listed if isinstance(listed, list) else []
    return {item.get("property"): item.get("value") for item in items if isinstance(item, dict)}


def _columns(document: dict[str, Any]) -> list[dict[str, Any]]:
    tables = document.get("schema")
    table = tables[0] if isinstance(tables, list) and tables and isinstance(tables[0], dict) else {}
    columns = table.get("properties")
    return [each for each in columns if isinstance(each, dict)] if isinstance(columns, list) else []


def _together(base: Any, own: Any, field: str = "") -> Any:
    """What `own` says, and for the rest what `base` does."""
    if field == "value":  # of a property: what it says, it says whole
        return own
    if isinstance(base, dict) and isinstance(own, dict):
        return {**base, **{name: _together(base.get(name), value, name) for name, value in own.items()}}
    if field == "schema" and isinstance(base, list) and isinstance(own, list) and len(base) == len(own) == 1:
        return [_together(base[0], own[0])]  # one table, under another name
    before, after = _by_name(base), _by_name(own)
    if before is not None and after is not None:
        return list({**before, **{name: _together(before.get(name), each) for name, each in after.items()}}.values())
    return own


def _by_name(items: Any) -> dict[str, Any] | None:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    found = {str(item.get("property") or item.get("name") or ""): item for item in items}
    return found if "" not in found and len(found) == len(items) else None
