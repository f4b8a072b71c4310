"""OData filters: read, checked against a table, written for v4, v3 or SQL, and made from the factory's regions.

What CBS understands is a small part of OData: `eq ne gt ge lt le`, `in`, `and`, `or`, `not`, `contains`,
`startswith`, `endswith` and, on v3, `substringof`. Anything else is for the server to judge (v4 passes the text on).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from assets.cbs.errors import BadFilterError
from assets.cbs.model import Dimension, TableMeta

Literal = str | float | int | bool | None

COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_MIRRORED = {"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
_FUNCTIONS = {"contains": "contains", "startswith": "starts_with", "endswith": "ends_with"}
OBSERVATION_FIELDS = ("Id", "Measure", "ValueAttribute", "Value", "StringValue")


@dataclass(frozen=True, slots=True)
class Compare:
    """`field op value`."""

    field: str
    op: str
    value: Literal


@dataclass(frozen=True, slots=True)
class Text:
    """`contains(field, value)`, `startswith` or `endswith`."""

    function: str
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Join:
    """Parts joined by `and` or `or`."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a part."""

    part: Node


Node = Compare | Text | Join | Not

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))|(?P<name>[A-Za-z_]\w*)|(?P<mark>[(),]))"
)


def parse(text: str) -> Node:
    """Read a filter.

    Raises:
        BadFilterError: the text is no filter that this module knows; the message points at the place.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while text[position:].strip():
            found = _TOKEN.match(text, position)
            if found is None:
                raise self.error(position)
            kind = found.lastgroup or ""
            self.tokens.append((kind, found[kind], found.start(kind)))
            position = found.end()
        self.at = 0

    def error(self, position: int) -> BadFilterError:
        here = self.text[position:].strip()[:30] or "the end"
        return BadFilterError(
            f"the filter cannot be read at position {position + 1} ({here}): write it as in "
            "\"RegioS eq 'GM0518' and Perioden ge '2019JJ00'\""
        )

    def fail(self) -> BadFilterError:
        return self.error(self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text))

    def peek(self) -> tuple[str, str]:
        if self.at < len(self.tokens):
            kind, value, _ = self.tokens[self.at]
            return kind, value
        return "", ""

    def take(self, kind: str, value: str | None = None) -> str:
        found, text = self.peek()
        if found != kind or (value is not None and text != value):
            raise self.fail()
        self.at += 1
        return text

    def accept(self, kind: str, value: str) -> bool:
        if self.peek() == (kind, value):
            self.at += 1
            return True
        return False

    def whole(self) -> Node:
        node = self.joined("or")
        if self.at < len(self.tokens):
            raise self.fail()
        return node

    def joined(self, word: str) -> Node:
        below: Callable[[], Node] = (lambda: self.joined("and")) if word == "or" else self.single
        parts = [below()]
        while self.accept("name", word):
            parts.append(below())
        return parts[0] if len(parts) == 1 else Join(word, tuple(parts))

    def single(self) -> Node:
        if self.accept("name", "not"):
            return Not(self.single())
        if self.accept("mark", "("):
            node = self.joined("or")
            self.take("mark", ")")
            return node
        kind, value = self.peek()
        if kind == "name" and value in (*_FUNCTIONS, "substringof"):
            self.at += 1
            return self.function(value)
        if kind == "name" and value not in ("null", "true", "false"):
            self.at += 1
            return self.comparison(value)
        literal = self.literal()
        op = self.operator()
        return Compare(self.take("name"), _MIRRORED[op], literal)

    def function(self, name: str) -> Node:
        self.take("mark", "(")
        if name == "substringof":
            value = _unquoted(self.take("text"))
            self.take("mark", ",")
            field = self.take("name")
        else:
            field = self.take("name")
            self.take("mark", ",")
            value = _unquoted(self.take("text"))
        self.take("mark", ")")
        node = Text("contains" if name == "substringof" else name, field, value)
        if self.accept("name", "eq"):
            truth = self.take("name")
            if truth not in ("true", "false"):
                raise self.fail()
            return node if truth == "true" else Not(node)
        return node

    def comparison(self, field: str) -> Node:
        if self.accept("name", "in"):
            self.take("mark", "(")
            values = [self.literal()]
            while self.accept("mark", ","):
                values.append(self.literal())
            self.take("mark", ")")
            return any_of(Compare(field, "eq", value) for value in values)
        op = self.operator()
        return Compare(field, op, self.literal())

    def operator(self) -> str:
        kind, value = self.peek()
        if kind != "name" or value not in COMPARISONS:
            raise self.fail()
        self.at += 1
        return value

    def literal(self) -> Literal:
        kind, value = self.peek()
        constants: dict[str, Literal] = {"null": None, "true": True, "false": False}
        if kind == "text":
            result: Literal = _unquoted(value)
        elif kind == "number":
            result = float(value) if "." in value else int(value)
        elif kind == "name" and value in constants:
            result = constants[value]
        else:
            raise self.fail()
        self.at += 1
        return result


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'")


def any_of(nodes: Iterator[Node] | Sequence[Node]) -> Node:
    """One of the parts holds."""
    parts = tuple(nodes)
    return parts[0] if len(parts) == 1 else Join("or", parts)


def walk(node: Node) -> Iterator[Compare | Text]:
    """All comparisons in a filter."""
    if isinstance(node, Join):
        for part in node.parts:
            yield from walk(part)
    elif isinstance(node, Not):
        yield from walk(node.part)
    else:
        yield node


def render(node: Node, protocol: str = "v4", widths: dict[str, int] | None = None) -> str:
    """A filter as text for the given protocol.

    Args:
        node: the filter.
        protocol: `v4`, or `v3`, where `contains(F,'x')` is written `substringof('x',F)`.
        widths: for v3, the length to which the codes of each dimension are padded.
    """
    widths = widths or {}
    if isinstance(node, Join):
        return f" {node.word} ".join(
            f"({render(part, protocol, widths)})" if isinstance(part, Join) else render(part, protocol, widths)
            for part in node.parts
        )
    if isinstance(node, Not):
        return f"not ({render(node.part, protocol, widths)})"
    if isinstance(node, Compare):
        value = node.value
        if isinstance(value, str):
            value = value.ljust(widths.get(node.field, 0))
        return f"{node.field} {node.op} {_written(value)}"
    if protocol == "v3" and node.function == "contains":
        return f"substringof({_written(node.value)},{node.field})"
    return f"{node.function}({node.field},{_written(node.value)})"


def _written(value: Literal) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def to_sql(node: Node) -> tuple[str, list[Literal]]:
    """A filter as an SQL condition with `?` for its values, in DuckDB's words."""
    if isinstance(node, Join):
        parts = [to_sql(part) for part in node.parts]
        text = f" {node.word} ".join(f"({sql})" for sql, _ in parts)
        return text, [value for _, values in parts for value in values]
    if isinstance(node, Not):
        sql, values = to_sql(node.part)
        return f"not coalesce({sql}, false)", values
    field = '"' + node.field.replace('"', '""') + '"'
    if isinstance(node, Text):
        return f"{_FUNCTIONS[node.function]}({field}, ?)", [node.value]
    if node.value is None:
        return (f"{field} is null" if node.op == "eq" else f"{field} is not null"), []
    return f"{field} {COMPARISONS[node.op]} ?", [node.value]


def to_sql_text(node: Node) -> str:
    """A filter as an SQL condition with its values written in, for views, which take no parameters."""
    sql, values = to_sql(node)
    between = sql.split("?")  # no name of a field holds one, see `_TOKEN`
    return between[0] + "".join(_written(value) + text for value, text in zip(values, between[1:], strict=True))


def split(node: Node, fields: frozenset[str]) -> tuple[Node | None, Node | None]:
    """Parts of an `and` that use only these fields, and the rest; their conjunction is the whole."""
    parts = node.parts if isinstance(node, Join) and node.word == "and" else (node,)
    inside = tuple(part for part in parts if all(leaf.field in fields for leaf in walk(part)))
    outside = tuple(part for part in parts if part not in inside)

    def joined(chosen: tuple[Node, ...]) -> Node | None:
        return None if not chosen else chosen[0] if len(chosen) == 1 else Join("and", chosen)

    return joined(inside), joined(outside)


def check(text: str, meta: TableMeta) -> Node | None:
    """Read a filter and hold its fields against the table; None where only the server can judge it.

    Raises:
        BadFilterError: a field that the table does not have, or (v3) a filter that cannot be translated.
    """
    try:
        node = parse(text)
    except BadFilterError:
        if meta.location.protocol == "v4":
            return None
        raise
    known = (*OBSERVATION_FIELDS, *(d.identifier for d in meta.dimensions))
    for leaf in walk(node):
        if leaf.field not in known:
            import difflib

            folded = {name.lower(): name for name in known}
            near = folded.get(leaf.field.lower()) or next(iter(difflib.get_close_matches(leaf.field, known, n=1)), None)
            hint = f"did you mean `{near}`?" if near else f"it has {', '.join(known)}"
            raise BadFilterError(f"table {meta.id} has no field `{leaf.field}` to filter on; {hint}")
    return node


def unknown_codes(node: Node, meta: TableMeta) -> list[str]:
    """Codes in `eq` comparisons that the table does not know, told with the code that resembles each most."""
    told = []
    measures = [m.identifier for m in meta.measures]
    for leaf in walk(node):
        if not isinstance(leaf, Compare) or leaf.op != "eq" or not isinstance(leaf.value, str):
            continue
        codes = measures if leaf.field == "Measure" else _codes(meta, leaf.field)
        if codes and leaf.value.strip() not in codes:
            import difflib

            near = difflib.get_close_matches(leaf.value.strip(), codes, n=1)
            told.append(f"{leaf.field} has no code '{leaf.value}'" + (f" (nearest: '{near[0]}')" if near else ""))
    return told


def _codes(meta: TableMeta, field: str) -> list[str]:
    return next(([c.identifier for c in d.codes] for d in meta.dimensions if d.identifier == field), [])


def regions_filter(meta: TableMeta, gemeenten: Sequence[str], provincie: str | None = None) -> str | None:
    """A filter on the factory's own regions: the country, the province, and the gemeenten with wijken and buurten.

    Args:
        meta: the table; without a region dimension there is nothing to filter.
        gemeenten: codes as `GM0518`.
        provincie: code as `PV28`; None leaves the province out.

    Returns:
        An OData v4 filter; None for a table without regions, or one that knows none of the gemeenten.
    """
    geo = meta.geo
    if geo is None:
        return None
    single = [code.identifier for code in geo.codes if re.fullmatch(r"NL\d\d", code.identifier)]
    own = [code for code in gemeenten if code in geo.by_identifier]
    below = [prefix for code in gemeenten for prefix in _below(geo, code[2:])]
    if not own and not below:
        return None
    if provincie and provincie in geo.by_identifier:
        single.append(provincie)
    nodes: list[Node] = [Compare(geo.identifier, "eq", code) for code in (*single, *own)]
    nodes += [Text("startswith", geo.identifier, prefix) for prefix in below]
    return render(any_of(nodes))


def _below(geo: Dimension, number: str) -> list[str]:
    prefixes = (f"WK{number}", f"BU{number}")
    return [prefix for prefix in prefixes if any(code.identifier.startswith(prefix) for code in geo.codes)]


def both(first: str | None, second: str | None) -> str | None:
    """Two filters that must both hold; None where there is neither."""
    given = [text for text in (first, second) if text]
    return " and ".join(f"({text})" for text in given) if len(given) > 1 else next(iter(given), None)
