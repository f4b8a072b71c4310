"""Reader of XML messages: one file holds records under a declared path, each a row.

Belongs here: how a message is walked and what makes one dangerous to read. A column is a path below the root; what
stands above the record (header, client) goes with every record under it. Namespace prefixes are free; elements that no
column names are not taken, and stay in the encrypted original only; but one among the records or right below the root
under another name, or a record elsewhere, would be a record that nobody misses, and refuses the message. What stands
above records and has none, as a client with nothing asked for, is told as a number.

Layout options: `wortel` (name of the root), `naamruimte` (its namespace, which names the message and its version; empty
where it has none), `record` (path of the record below the root), `ook` (names right below the root that were agreed and
are not taken).
"""

from __future__ import annotations

import codecs
import io
import itertools
import mmap
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from lxml import etree

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Piece, Source
from quality.contracts.model import Contract
from quality.schemas.deliveries import NO_RECORD

_ROWS = 50_000  # in a piece
_PROLOGUE = 64 << 10  # bytes in which a document type would have to stand

_DECLARED = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")

Path = tuple[str, ...]


def read(source: Source, contract: Contract) -> Iterator[Piece]:
    """The records of a message, numbered from 1, their values as text without spaces around them.

    Raises:
        DeliveryError: it is no such message, not well-formed, in another encoding, or declares a document type (with
            which entities would come).
    """
    if not len(source.data):
        return
    noted: Counter[str] = Counter()
    rows = _records(source, contract, noted)
    for first in itertools.count(1, _ROWS):
        piece = list(itertools.islice(rows, _ROWS))
        if not piece and not noted:
            return
        frame = pl.DataFrame(piece, schema=dict.fromkeys(contract.names, pl.String), orient="row")
        numbers = pl.int_range(first, first + len(piece), dtype=pl.Int64).alias(LINE)
        nothing = pl.DataFrame(schema={LINE: pl.Int64, "regel": pl.String, "record": pl.String})
        yield Piece(frame.with_columns(numbers), nothing, nothing.drop("record"), dict(noted))
        noted.clear()


def render(frame: pl.DataFrame, contract: Contract) -> bytes:
    """A message with these records; those that follow each other with the same values above them stand together.

    Raises:
        DeliveryError: the values of the message itself differ between records, or cannot stand in XML.
    """
    options = contract.layout.options
    record, paths = _path(options["record"]), _paths(contract)
    shared = [_shared(path, record) for path in paths]
    space = options["naamruimte"]
    root = etree.Element(f"{{{space}}}{options['wortel']}", nsmap={None: space})
    opened: list[Any] = [root]
    above: list[tuple[str, ...]] = []
    for row in frame.iter_rows():
        own = [tuple(v for v, deep in zip(row, shared, strict=True) if deep == level) for level in range(len(record))]
        same = next((level for level, (a, b) in enumerate(zip(above, own, strict=False)) if a != b), len(above))
        if above and same == 0:
            raise DeliveryError(f"{contract.name}: values of the message itself differ between its records")
        del opened[max(same, 1) :]
        for level in range(len(opened) - 1 if above else 0, len(record) + 1):
            if level >= len(opened):
                opened.append(etree.SubElement(opened[-1], f"{{{space}}}{record[level - 1]}"))
            elif above:
                continue
            for path, value, deep in zip(paths, row, shared, strict=True):
                if deep == level and value:
                    _set(opened[level], path[level:], value, space)
        above = own
    return bytes(etree.tostring(root, xml_declaration=True, encoding=contract.layout.encoding))


def _records(source: Source, contract: Contract, noted: Counter[str]) -> Iterator[list[str | None]]:
    """Every record's values; into `noted` goes how many places for records have none."""
    record = _path(contract.layout.options["record"])
    places = {path: place for place, path in enumerate(_paths(contract))}
    # an element that opens anew takes the values under it with it
    under = {record[:depth]: [p for path, p in places.items() if path[:depth] == record[:depth]]
             for depth in range(1, len(record) + 1)}  # fmt: skip
    above = [record[:depth] for depth in range(1, len(record))]
    agreed = [(name,) for name in contract.layout.options.get("ook") or ()]
    known = {path[:depth] for path in (*places, record, *agreed) for depth in range(len(path) + 1)}
    values: list[str | None] = [None] * len(places)
    stack: list[str] = []
    before: list[int] = []  # of each open place for records how many there were when it began
    number, empty = 1, 0
    try:
        for event, element in _events(source, contract.layout.encoding):
            if event == "start":
                if not stack:
                    _refuse_other(source.name, element, contract)
                stack.append(etree.QName(element).localname)
                path = tuple(stack[1:])
                if path not in known:
                    _refuse_stray(source.name, number, path, record)
                for place in under.get(path, ()):
                    values[place] = None
                if path in above:
                    before.append(number + empty)
                continue
            path = tuple(stack[1:])
            if path in above and before.pop() == number + empty:
                noted[NO_RECORD] += 1
                empty += 1  # what it stands in is not told again
            if path in places:
                if len(element):
                    raise DeliveryError(
                        f"{source.name}, record {number}: element {'/'.join(path)} holds elements where a value was "
                        "agreed: have the message made again"
                    )
                if values[places[path]] is not None:
                    raise DeliveryError(
                        f"{source.name}, record {number}: element {'/'.join(path)} stands there twice: have the "
                        "message made again"
                    )
                values[places[path]] = (element.text or "").strip() or None
            if path == record:
                yield values.copy()
                number += 1
            stack.pop()
            _forget(element)
    except etree.XMLSyntaxError as error:
        # the parser's own words may quote a value
        line = f", line {error.lineno}" if error.lineno else ""
        raise DeliveryError(
            f"{source.name}{line}: not well-formed XML in {contract.layout.encoding}, or a value larger than 10 MB: "
            "have the message made again"
        ) from None


def _refuse_stray(name: str, number: int, path: Path, record: Path) -> None:
    """Let no record go unmissed because it has another name or stands in another place.

    Raises:
        DeliveryError: this element, of which the contract knows nothing, may well be one; its name may be anyone's.
    """
    place = "/".join(record)
    if len(path) == 1:
        raise DeliveryError(
            f"{name}, record {number}: an element stands right below the root that was not agreed: have the message "
            "made again"
        )
    if path[:-1] == record[:-1]:
        raise DeliveryError(
            f"{name}, record {number}: an element of another name stands among the records {place}: have the message "
            "made again"
        )
    if path[-1] == record[-1]:
        raise DeliveryError(
            f"{name}, record {number}: a record stands elsewhere than in {place}: have the message made again"
        )


def _events(source: Source, agreed: str) -> Iterator[tuple[str, Any]]:
    _refuse_encoding(source, agreed)
    if b"<!DOCTYPE" in source.data[:_PROLOGUE]:
        raise _document_type(source.name)
    file: Any = io.BytesIO(source.data)
    if isinstance(source.data, mmap.mmap):
        source.data.seek(0)
        file = source.data
    events: Iterator[tuple[str, Any]] = etree.iterparse(
        file, events=("start", "end"), resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    return events


def _refuse_encoding(source: Source, agreed: str) -> None:
    """Hold the encoding that a message declares to the agreed one; bytes that break it are the parser's to find.

    Raises:
        DeliveryError: it declares another, or is UTF-16.
    """
    start = bytes(source.data[:200])
    declared = _DECLARED.match(start.removeprefix(codecs.BOM_UTF8))
    name = declared[1].decode("ascii") if declared else "utf-8"
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start[:4]:
        name = "UTF-16"
    if name.lower().replace("_", "-") != agreed.lower():
        try:
            codecs.lookup(name)
        except LookupError:
            name = "in an unknown encoding"  # what stands there is no name of one, and may be anyone's
        raise DeliveryError(f"{source.name} is {name}: deliver it as {agreed}, as was agreed")


def _refuse_other(name: str, root: Any, contract: Contract) -> None:
    """Hold the document to the agreed message.

    Raises:
        DeliveryError: another message or version, or one with a document type.
    """
    if root.getroottree().docinfo.internalDTD is not None:
        raise _document_type(name)
    options = contract.layout.options
    space = f"{{{options['naamruimte']}}}" if options["naamruimte"] else ""
    if root.tag != f"{space}{options['wortel']}":
        raise DeliveryError(
            f"{name} is another message than {contract.title}: expected <{options['wortel']}> of "
            f"{options['naamruimte'] or 'no namespace'}; check message and version"
        )


def _document_type(name: str) -> DeliveryError:
    return DeliveryError(f"{name} declares a document type, which no message needs: it is not read; leave it out")


def _forget(element: Any) -> None:
    """Let go of what has been read, so that memory does not grow with the message."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _path(text: str) -> Path:
    return tuple(text.split("/"))


def _paths(contract: Contract) -> list[Path]:
    return [_path(column.header) for column in contract.columns]


def _shared(path: Path, record: Path) -> int:
    """How deep a path goes along with that of the record."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(path, record, strict=False)))


def _set(element: Any, path: Sequence[str], value: str, space: str) -> None:
    for name in path:
        tag = f"{{{space}}}{name}"
        found = element.find(tag)
        element = etree.SubElement(element, tag) if found is None else found
    try:
        element.text = value
    except ValueError:
        raise DeliveryError(f"a value of {'/'.join(path)} holds characters that XML cannot hold") from None
