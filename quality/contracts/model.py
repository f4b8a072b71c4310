"""A delivery contract as the factory uses it, read from an ODCS 3.1 file.

Belongs here: what a contract says, and whether what it says hangs together. Does not belong here: how a file is
read (assets.deliveries.layouts), how a value is repaired (quality.repairs) or judged (quality.schemas.deliveries).

ODCS has no field for some of it; those stand in `customProperties`:

| level | property | says |
|---|---|---|
| contract | `leverancier` | who delivers |
| contract | `layout` | `formaat`, `scheiding`, `codering`, and what else the reader of that format asks |
| contract | `periode` | `soort` (see `PERIODS`), pattern of the `bestandsnaam`, `kolommen` that repeat it |
| contract | `correctie` | `vervangt_alles`, `vervangt_periode`, `toevoegen` or `per_record` (see `Superseding`) |
| contract | `max_foutaandeel` | share of refused rows above which the delivery as a whole is refused |
| contract | `groei` | how many times the rows of the largest delivery before one may hold (10 where unset) |
| contract | `leeg_toegestaan` | whether a delivery without rows is one |
| contract | `adres`, `plaatsing` | which columns are an address; which make this the address-to-buurt reference |
| contract | `doelen` | per purpose: the columns it needs and how each is coarsened; which rows (`behoud`) |
| contract | `coordinaten` | which columns are latitude and longitude; which faults of the pair are mended |
| contract | `afdrukregel` | pattern of lines that a print function leaves: refused under that name |
| column | `breedte`, `leeg` | width; values that by the layout mean "nothing here" |
| column | `herstel`, `codes`, `ernst` | dirt rules in order; code list; severity per rule |
| column | `venster` | between which days a date lies (`vanaf`, `tot_en_met`), by the period too: see `Window` |

`relationships` (of a column, or of the whole where it takes several) name columns of another delivery in which the
values must stand (`to: brp.bsn`); rows are held to it where the factory names that delivery.

A dirt rule that reads the agreed notation or code, and so mends nothing, has `afgesproken: true` beside it.
A contract may build on another (`zoals`, see quality.contracts.building), as those of the iWmo do on the iJw's.

A dirt rule or a code may hold for some periods only: `vanaf` and `tot_en_met` beside it, each the start of a period
("2016", "2016-03"). A column whose name in the file differs has that as `physicalName`; in XML and JSON it is a path.

The promised term is the SLA property `latency`, the term for corrections `timeToRepair` (both in days), the owner
the team, the privacy class `classification`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datafabriek.errors import FactoryError

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, SchemaObject, SchemaProperty

SHIPPED = Path(__file__).parent

Severity = Literal["fatal", "error", "warning"]
"""fatal: the delivery is refused; error: the row is refused; warning: the row is accepted and the finding told."""

PRIVACY_CLASSES = (
    "direct_identificerend",
    "administratief_nummer",
    "quasi_identificerend",
    "gevoelig",
    "strafrechtelijk",
    "open",
)
TYPES = ("string", "integer", "number", "date", "time", "timestamp", "boolean")
CORRECTIONS = ("vervangt_alles", "vervangt_periode", "toevoegen", "per_record")
FORMATS = ("gescheiden", "vaste_breedte", "werkblad", "xml", "json", "parquet")
PERIODS = {
    "dag": ("jaar", "maand", "dag"),
    "maand": ("jaar", "maand"),
    "halfjaar": ("jaar", "halfjaar"),
    "jaar": ("jaar",),
}

DERIVATIONS: Mapping[str, str] = {
    "pseudoniem": "UUID",
    "buurt": "VARCHAR",
    "indeling_jaar": "INTEGER",
    "gemeente": "VARCHAR",
    "eerste_peildatum": "DATE",
    "maand": "DATE",
    "jaar": "INTEGER",
    "dag": "DATE",
    "uur": "INTEGER",
    "postcode4": "VARCHAR",
    "vierkant_500m": "VARCHAR",
    "lopend": "BOOLEAN",
    "ja_nee": "BOOLEAN",
    "sbi_afdeling": "VARCHAR",
    "sbi_sectie": "VARCHAR",
    "groep": "VARCHAR",
    "klasse": "VARCHAR",
    "leeftijdsklasse": "VARCHAR",
    "hele_euros": "BIGINT",
    "gemeente_of_postcode": "VARCHAR",
    "bijzondere_code": "VARCHAR",
    "kopie": "",
}
"""How a purpose's column follows from the delivery's, and its type in the warehouse (kopie: as delivered).

`groep` takes codes together (`groepen`: name → codes), `klasse` and `leeftijdsklasse` cut at `grenzen` (the lower ends
of all classes but the first; the age is that reached in the year of the delivery), `hele_euros` makes whole euros of
cents (an integer) or euros, less than zero where a second column says C (credit), `gemeente_of_postcode` makes GM0518
or PC2511. Some identifiers are no one's: `codes` (of `pseudoniem`) get no pseudonym, and `bijzondere_code` tells which
of them it was, or `bekend`.
"""

SQL_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DECIMAL(18, 4)",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "boolean": "BOOLEAN",
}


class ContractError(FactoryError):
    """A contract that does not exist, cannot be read, or contradicts itself."""

    exit_code = 2


@dataclass(frozen=True)
class Term:
    """For which periods something holds; both ends are starts of a period and may be open."""

    since: str | None = None
    until: str | None = None

    def holds(self, period: str | None) -> bool:
        """Whether it holds for a period; where none is known it does only if it always holds."""
        if period is None:
            return self.since is None and self.until is None
        after = self.since is None or period[: len(self.since)] >= self.since
        return after and (self.until is None or period[: len(self.until)] <= self.until)


@dataclass(frozen=True)
class Step:
    """One dirt rule on one column: its name in `quality.repairs`, its argument and the periods it is for.

    `agreed`: it reads what was agreed (`afgesproken`), as ISO 8601 in a message or nines for no end; that is no repair.
    """

    rule: str
    argument: Any = None
    term: Term = Term()
    agreed: bool = False


@dataclass(frozen=True)
class Rule:
    """A rule beyond type, pattern, length, range and code list: its name, how it is computed, and how grave it is."""

    name: str
    implementation: str
    arguments: Mapping[str, Any]
    severity: Severity
    description: str


RELATION, UNJUDGED = "relatie_", "_niet_getoetst"
"""The rule of a relation is called `relatie_<delivery>`; so, where nothing of that delivery is in, that it is told."""


@dataclass(frozen=True)
class Relation:
    """Columns whose values must stand in those of another delivery, which a factory may or may not name."""

    columns: tuple[str, ...]
    delivery: str
    to: tuple[str, ...]

    @property
    def rule(self) -> str:
        """Its name as a rule, on the first of its columns (`ernst` says there how grave it is)."""
        return f"{RELATION}{self.delivery}"


@dataclass(frozen=True)
class Window:
    """Between which days a date or moment must lie, both ends included; an end may be open.

    An end is a day (jjjjmmdd), or `begin_periode`, `einde_periode` or `vandaag` with days (d), months (m) or years
    (j) more or less: `einde_periode+1m`.
    """

    since: str | None = None
    until: str | None = None

    def days(self, begin: date, end: date, today: date) -> tuple[date | None, date | None]:
        """Both ends for a period that begins and ends on these days."""
        known = {"begin_periode": begin, "einde_periode": end, "vandaag": today}

        def day(bound: str | None) -> date | None:
            found = BOUND.fullmatch(bound or "")
            if found is None:
                return None
            if found["dag"]:
                return date(int(found["dag"][:4]), int(found["dag"][4:6]), int(found["dag"][6:]))
            start, count = known[found["woord"]], int(found["aantal"] or 0)
            if found["soort"] == "d":
                return start + timedelta(days=count)
            months = 12 * start.year + start.month - 1 + count * (12 if found["soort"] == "j" else 1)
            first = date(months // 12, months % 12 + 1, 1)
            last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
            return first.replace(day=min(start.day, last.day))

        return day(self.since), day(self.until)


BOUND = re.compile(
    r"(?P<dag>\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))|"
    r"(?P<woord>begin_periode|einde_periode|vandaag)((?P<aantal>[+-]\d{1,4})(?P<soort>[dmj]))?"
)
"""How the end of a window is written."""


@dataclass(frozen=True)
class Column:
    """A column of a delivery."""

    name: str
    description: str
    type: str
    physical: str
    required: bool
    key: int | None
    privacy: str
    width: int | None
    empty: tuple[str, ...]
    repairs: tuple[Step, ...]
    codes: Mapping[str, str]
    options: Mapping[str, Any]
    rules: tuple[Rule, ...]
    severities: Mapping[str, Severity]
    physical_name: str = ""
    code_terms: Mapping[str, Term] = field(default_factory=dict)
    window: Window | None = None

    @property
    def header(self) -> str:
        """Its name (or path) in the file."""
        return self.physical_name or self.name

    @property
    def sql_type(self) -> str:
        """DuckDB type under which the vault keeps it."""
        return SQL_TYPES[self.type]

    @property
    def personal(self) -> bool:
        """Whether a value may not be shown outside the vault."""
        return self.privacy != "open"

    def severity(self, rule: str) -> Severity:
        """How grave it is when a value breaks the named rule."""
        return self.severities.get(rule, "error")


@dataclass(frozen=True)
class Derived:
    """A column of a purpose's table: from which columns of the delivery, and how."""

    name: str
    derivation: str
    sources: tuple[str, ...]
    kind: str | None
    sql_type: str
    description: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """What its derivation takes besides its sources: limits of classes, codes, groups."""
        told = {"bewerking", "van", "soort", "omschrijving"}
        return {name: value for name, value in self.options.items() if name not in told}


@dataclass(frozen=True)
class Needed:
    """Whose rows a purpose needs: of who stands, by pseudonym, in another of its own tables.

    Attributes:
        column: the pseudonym here.
        delivery: the other table is `raw_<purpose>.<delivery>`.
        theirs: the pseudonym there.
        dates: the column there by which the purpose asks, a month (its end counts) or a day; None where no date does.
    """

    column: str
    delivery: str
    theirs: str
    dates: str | None = None


@dataclass(frozen=True)
class Purpose:
    """What one purpose gets of a delivery: a table `raw_<purpose>.<delivery>`.

    `behoud` in the contract says which rows: those that hold on some reference date (`valid_between`), those of persons
    whom the purpose has to do with, at the dates on which it asks (`needed`), and those of which a column of its own is
    true (`only`).
    """

    name: str
    description: str
    columns: tuple[Derived, ...]
    distinct: bool
    valid_between: tuple[str, str] | None
    needed: Needed | None = None
    only: str | None = None

    @property
    def pseudonyms(self) -> tuple[Derived, ...]:
        """The keyed columns, in order."""
        return tuple(column for column in self.columns if column.derivation == "pseudoniem")


@dataclass(frozen=True)
class Layout:
    """How the file is made up; `options` holds what only the reader of the format knows."""

    format: str
    delimiter: str
    encoding: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Coordinates:
    """Which columns are a pair of coordinates (degrees), and which faults of the pair are mended, in order."""

    latitude: str
    longitude: str
    repairs: tuple[str, ...]


@dataclass(frozen=True)
class Superseding:
    """Deliveries add up, and of all records of one key the last counts; or none, where that one takes it back.

    In the contract: `correctie: {per_record: {binnen: [gemeente_code], vervalt_bij: {status: ["3"]}}}`.

    Attributes:
        key: what names a record over all deliveries: the contract's key, and the columns within which that holds.
        column: says what a record does.
        removing: its codes for taking the earlier record back.
    """

    key: tuple[str, ...]
    column: str
    removing: tuple[str, ...]


@dataclass(frozen=True)
class PeriodRule:
    """What a delivery covers: a day, month, half-year or year, from the file's name and repeated in its columns."""

    kind: str
    pattern: re.Pattern[str]
    columns: Mapping[str, str]

    def of_file(self, name: str) -> str | None:
        """The period in a file's name ('2020', '2020-03' or '2020-12-31'); None where it has none."""
        found = self.pattern.match(name)
        return self.check("-".join(found[part] for part in PERIODS[self.kind])) if found else None

    def check(self, period: str) -> str | None:
        """The period itself where it is one of this kind, else None."""
        if self.kind == "halfjaar":
            return period if re.fullmatch(r"\d{4}-H[12]", period) else None
        start = {"dag": period, "maand": f"{period}-01", "jaar": f"{period}-01-01"}[self.kind]
        try:
            return period if date.fromisoformat(start) and len(start) == 10 else None
        except ValueError:
            return None

    def begin(self, period: str) -> date:
        """First day of a period."""
        if self.kind == "dag":
            return date.fromisoformat(period)
        if self.kind == "halfjaar":
            return date(int(period[:4]), 1 if period.endswith("H1") else 7, 1)
        return date.fromisoformat(f"{period}-01" if self.kind == "maand" else f"{period}-01-01")

    def end(self, period: str) -> date:
        """Last day of a period."""
        if self.kind == "dag":
            return date.fromisoformat(period)
        if self.kind == "jaar":
            return date(int(period), 12, 31)
        if self.kind == "halfjaar":
            return date(int(period[:4]), 6, 30) if period.endswith("H1") else date(int(period[:4]), 12, 31)
        first = date.fromisoformat(f"{period}-01")
        return (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)

    @property
    def file_name(self) -> str:
        """The name of a file over `example`, for who reads no patterns; the pattern itself where it says too little."""
        parts = dict(zip(PERIODS[self.kind], self.example.split("-"), strict=True))
        name = re.sub(r"\(\?P<(\w+)>[^()]*\)", lambda part: parts.get(part[1], "…"), self.pattern.pattern)
        name = re.sub(r"(\.|\\w)(\*|\+|\{[\d,]+\})", "…", name.removeprefix("^").removesuffix("$"))
        name = re.sub(r"\\([^\w\s])", r"\1", name)
        return self.pattern.pattern if re.search(r"[\\()\[\]{}?*+|^$]", name) else name

    @property
    def example(self) -> str:
        """A period of this kind, for messages."""
        return {"dag": "2024-12-31", "maand": "2024-05", "halfjaar": "2024-H1", "jaar": "2024"}[self.kind]


@dataclass(frozen=True)
class Contract:
    """A contract, checked. `columns` are in the order of the file."""

    name: str
    title: str
    version: str
    description: str
    supplier: str
    owner: str
    layout: Layout
    period: PeriodRule
    correction: str
    max_refused: float
    empty_allowed: bool
    promised_days: int | None
    repair_days: int | None
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    address: Mapping[str, str]
    placing: Mapping[str, str]
    print_line: str | None
    purposes: Mapping[str, Purpose]
    source: Path = field(compare=False)
    files: tuple[Path, ...] = field(compare=False)
    coordinates: Coordinates | None = None
    most_growth: float = 10.0
    relations: tuple[Relation, ...] = ()
    superseding: Superseding | None = None

    def __getitem__(self, column: str) -> Column:
        """The column of that name."""
        return next(item for item in self.columns if item.name == column)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in the order of the file."""
        return [column.name for column in self.columns]

    @property
    def digest(self) -> str:
        """SHA-256 of the files that it stands in, its own and those that it builds on."""
        return sha256(b"".join(file.read_bytes() for file in self.files)).hexdigest()

    @property
    def key(self) -> list[str]:
        """Columns that together name a row."""
        return [c.name for c in sorted((c for c in self.columns if c.key), key=lambda c: c.key or 0)]


def find_contracts(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Contract files by name: the shipped ones and those of the factory's own folders.

    Raises:
        ContractError: one name stands for two files.
    """
    found: dict[str, Path] = {}
    for folder in (SHIPPED, *folders):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in found:
                raise ContractError(f"{path} and {found[path.stem]} are both contract `{path.stem}`: rename yours")
            found[path.stem] = path
    return found


def load(name: str, folders: Sequence[Path] = ()) -> Contract:
    """A contract by name.

    Raises:
        ContractError: it does not exist (the message suggests one that does), or is not in order.
    """
    found = find_contracts(folders)
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(found)}"
        raise ContractError(f"no contract is called `{name}`; {hint}")
    return read(found[name])


def read(path: Path) -> Contract:
    """Read and check one contract file.

    Raises:
        ContractError: the file is missing, is no ODCS contract, or contradicts itself; the message names the
            column and what was expected.
    """
    contract, stamps = _read(path, _stamp(path))
    if any(_stamp(file) != stamp for file, stamp in stamps):  # what it builds on was written since
        _read.cache_clear()
        contract, _ = _read(path, _stamp(path))
    return contract


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise ContractError(f"{path} cannot be read ({error.strerror}): check the path") from None


@lru_cache(maxsize=256)
def _read(path: Path, _own: int) -> tuple[Contract, tuple[tuple[Path, int], ...]]:
    """The contract in a file, and when each of the files that it builds on was last written."""
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    from quality.contracts.building import whole

    document, files = whole(path)
    stamps = tuple((file, _stamp(file)) for file in files)
    try:
        odcs = OpenDataContractStandard.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContractError(f"{path}: `{where}`: {first['msg']}") from None
    if odcs.kind != "DataContract" or not odcs.schema_ or len(odcs.schema_) != 1 or odcs.id != path.stem:
        raise ContractError(f"{path}: expected kind DataContract, id `{path.stem}` and one table under `schema`")
    table = odcs.schema_[0]
    custom = {item.property: item.value for item in odcs.customProperties or []}
    columns = tuple(_column(path, item) for item in table.properties or [])
    layout = custom.get("layout") or {}
    period = custom.get("periode") or {}
    terms = {item.property: item.value for item in odcs.slaProperties or [] if item.unit == "d"}
    team = getattr(odcs.team, "name", None)
    _expect(path, "layout.formaat", layout.get("formaat"), FORMATS)
    _expect(path, "periode.soort", period.get("soort"), tuple(PERIODS))
    correction, within = _correction(custom.get("correctie"))
    _expect(path, "correctie", correction, CORRECTIONS)
    try:
        pattern = re.compile(str(period.get("bestandsnaam", r"(?!)")))
    except re.error:
        raise ContractError(f"{path}: `periode.bestandsnaam` is no regular expression") from None
    contract = Contract(
        name=path.stem,
        title=odcs.name or path.stem,
        version=odcs.version or "",
        description=(table.description or "").strip(),
        supplier=str(custom.get("leverancier") or ""),
        owner=str(team or ""),
        layout=Layout(
            layout["formaat"], str(layout.get("scheiding", ";")), str(layout.get("codering", "utf-8")), layout
        ),
        period=PeriodRule(period["soort"], pattern, period.get("kolommen") or {}),
        correction=correction,
        max_refused=_number(path, "max_foutaandeel", custom.get("max_foutaandeel"), 0.0, 0, 1),
        empty_allowed=bool(custom.get("leeg_toegestaan", False)),
        promised_days=_days(terms.get("latency")),
        repair_days=_days(terms.get("timeToRepair")),
        columns=columns,
        rules=tuple(_rule(path, item) for item in table.quality or []),
        address=custom.get("adres") or {},
        placing=custom.get("plaatsing") or {},
        print_line=custom.get("afdrukregel"),
        purposes={
            name: _purpose(path, name, item or {}, columns) for name, item in (custom.get("doelen") or {}).items()
        },
        source=path,
        files=files,
        coordinates=_coordinates(path, custom.get("coordinaten"), columns),
        most_growth=_number(path, "groei", custom.get("groei"), 10.0, 1, 1_000_000),
        relations=tuple(_relations(path, table)),
    )
    if correction == "per_record":
        contract = replace(contract, superseding=_superseding(contract, within))
    _check(contract)
    return contract, stamps


def _number(path: Path, what: str, value: Any, usual: float, least: float, most: float) -> float:
    """A number between bounds; beyond them, as with one that is none (`.nan`), a norm would hold nothing back."""
    try:
        number = usual if value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number <= most:
        raise ContractError(f"{path}: {what}: a number from {least} to {most}")
    return number


def _check_text(contract: Contract) -> None:
    """Whether text can be taken apart as the layout says, and patterns hold in the engine that judges.

    That engine takes time in proportion to the text whatever the pattern, which looking around or back would not.
    """
    where, layout = contract.source, contract.layout
    try:
        is_plain = "".join(map(chr, range(128))).encode(layout.encoding) == bytes(range(128))
    except (LookupError, UnicodeError):
        is_plain = False
    if not is_plain:
        raise ContractError(f"{where}: layout.codering: `{layout.encoding}` is none that text comes in, as utf-8")
    if layout.format == "gescheiden" and not re.fullmatch(r"[^\w\s\"'.-]|\t", layout.delimiter, re.ASCII):
        raise ContractError(f"{where}: layout.scheiding: one sign that stands in no value, as ; or a tab")
    patterns = {column.name: column.options.get("pattern") for column in contract.columns}
    for what, pattern in {"afdrukregel": contract.print_line, **patterns}.items():
        try:
            is_sound = not pattern or (bool(re.compile(pattern)) and not _LOOKS_ABOUT.search(pattern))
        except (re.error, TypeError, RecursionError, OverflowError):
            is_sound = False
        if not is_sound:
            raise ContractError(f"{where}: `{what}`: a regular expression without looking around (?=…) or back (\\1)")


_LOOKS_ABOUT = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:[=!>]|<[=!]|P=)|\\[1-9])")


def _correction(value: Any) -> tuple[str, Mapping[str, Any]]:
    """A rule by its name, or by its name with what it takes."""
    if isinstance(value, dict) and len(value) == 1:
        ((name, told),) = value.items()
        return str(name), told if isinstance(told, dict) else {}
    return str(value), {}


def _superseding(contract: Contract, told: Mapping[str, Any]) -> Superseding:
    where = "correctie.per_record"
    _expect_all(contract.source, where, told, ("binnen", "vervalt_bij"))
    within, removing = told.get("binnen") or (), told.get("vervalt_bij")
    _expect_all(contract.source, f"{where}.binnen", within, tuple(contract.names))
    if not contract.key or not isinstance(removing, dict) or len(removing) != 1 or not all(removing.values()):
        raise ContractError(
            f"{contract.source}: {where}: it asks for a key, and for the codes that take a record back, as "
            '`vervalt_bij: {status: ["3"]}`'
        )
    ((column, codes),) = removing.items()
    _expect(contract.source, f"{where}.vervalt_bij", column, tuple(contract.names))
    key = dict.fromkeys([*map(str, within), *contract.key])
    return Superseding(tuple(key), str(column), tuple(map(str, codes)))


def _relations(path: Path, table: SchemaObject) -> Iterator[Relation]:
    """Those of the whole, which may be of several columns, and those of each column."""
    told = [(item.from_, item.to) for item in table.relationships or ()]
    told += [(each.name, item.to) for each in table.properties or () for item in each.relationships or ()]
    for own, other in told:
        columns, to = ([one] if isinstance(one, str) else list(one or ()) for one in (own, other))
        columns = [column.removeprefix(f"{table.name}.") for column in columns]
        parts = [column.split(".") for column in to]
        if len(parts) != len(columns) or any(len(part) != 2 for part in parts) or len({part[0] for part in parts}) != 1:
            raise ContractError(f"{path}: relationships: `to` is written <delivery>.<column>, one for each `from`")
        yield Relation(tuple(columns), parts[0][0], tuple(part[1] for part in parts))


def _coordinates(path: Path, item: dict[str, Any] | None, columns: tuple[Column, ...]) -> Coordinates | None:
    if item is None:
        return None
    from quality.coordinates import REPAIRS

    names = tuple(column.name for column in columns)
    for part in ("breedtegraad", "lengtegraad"):
        _expect(path, f"coordinaten.{part}", item.get(part), names)
    repairs = tuple(str(repair) for repair in item.get("herstel") or ())
    for repair in repairs:
        _expect(path, "coordinaten.herstel", repair, tuple(REPAIRS))
    return Coordinates(str(item["breedtegraad"]), str(item["lengtegraad"]), repairs)


def _days(value: Any) -> int | None:
    return int(value) if value is not None else None


def _column(path: Path, item: SchemaProperty) -> Column:
    custom = {extra.property: extra.value for extra in item.customProperties or []}
    where = f"column `{item.name}`"
    _expect(path, f"{where}: logicalType", item.logicalType, TYPES)
    _expect(path, f"{where}: classification", item.classification, PRIVACY_CLASSES)
    steps = []
    for step in custom.get("herstel") or []:
        if isinstance(step, dict):
            ((rule, argument),) = ((name, value) for name, value in step.items() if name not in (*_TERM, _AGREED))
            argument = tuple(argument) if isinstance(argument, list) else argument
            steps.append(Step(str(rule), argument, _term(step), bool(step.get(_AGREED))))
        else:
            steps.append(Step(str(step)))
    codes = custom.get("codes") or {}
    terms = {str(code): _term(label) for code, label in codes.items() if isinstance(label, dict)}
    return Column(
        name=str(item.name),
        description=(item.description or "").strip(),
        type=str(item.logicalType),
        physical=item.physicalType or "",
        required=bool(item.required),
        key=(item.primaryKeyPosition or 1) if item.primaryKey else None,
        privacy=str(item.classification),
        width=custom.get("breedte"),
        empty=tuple(str(value) for value in custom.get("leeg") or ()),
        repairs=tuple(steps),
        codes={
            str(code): str(label["omschrijving"] if isinstance(label, dict) else label) for code, label in codes.items()
        },
        options=item.logicalTypeOptions or {},
        rules=tuple(_rule(path, rule) for rule in item.quality or []),
        severities=custom.get("ernst") or {},
        physical_name=item.physicalName or "",
        code_terms=terms,
        window=_window(path, where, custom.get("venster")),
    )


_TERM, _AGREED = ("vanaf", "tot_en_met"), "afgesproken"


def _window(path: Path, where: str, item: Mapping[str, Any] | None) -> Window | None:
    if item is None:
        return None
    ends = [str(item[name]) if name in item else None for name in _TERM]
    if set(item) - set(_TERM) or not any(ends) or any(end is not None and not BOUND.fullmatch(end) for end in ends):
        raise ContractError(
            f"{path}: {where}: venster: expected `vanaf` or `tot_en_met`, a day (jjjjmmdd) or as einde_periode+1m"
        )
    return Window(*ends)


def _term(item: Mapping[str, Any]) -> Term:
    since, until = (str(item[name]) if name in item else None for name in _TERM)
    return Term(since, until)


def _rule(path: Path, item: DataQuality) -> Rule:
    how = item.implementation
    arguments = {key: value for key, value in how.items() if key != "regel"} if isinstance(how, dict) else {}
    name = str(how.get("regel") if isinstance(how, dict) else how)
    severity = item.severity or "error"
    _expect(path, f"rule `{item.name}`: severity", severity, ("fatal", "error", "warning"))
    return Rule(item.name or name, name, arguments, severity, item.description or "")  # type: ignore[arg-type]


_NAME = re.compile(r"[a-z][a-z0-9_]*")

_LEAST_SOURCES = {"buurt": 0, "indeling_jaar": 0, "vierkant_500m": 2, "lopend": 4}


def _purpose(path: Path, name: str, item: dict[str, Any], columns: tuple[Column, ...]) -> Purpose:
    known = {column.name: column for column in columns}
    derived = []
    for column, how in (item.get("kolommen") or {}).items():
        derivation = how.get("bewerking", "kopie")
        _expect(path, f"purpose `{name}`, column `{column}`: bewerking", derivation, tuple(DERIVATIONS))
        sources = how.get("van") or ()
        sources = (sources,) if isinstance(sources, str) else tuple(sources)
        for source in sources:
            _expect(path, f"purpose `{name}`, column `{column}`: van", source, tuple(known))
        if "jaren_terug" in how:
            raise ContractError(
                f"{path}: purpose `{name}`, column `{column}`: jaren_terug is gone: say under `behoud` on which dates "
                "the purpose asks (`komt_voor_in` and `peildata`), which leaves out what lies before them"
            )
        least = _LEAST_SOURCES.get(derivation, 1)
        if len(sources) < least:
            raise ContractError(f"{path}: purpose `{name}`, column `{column}`: `van` needs {least} column(s)")
        closed = {"direct_identificerend", "administratief_nummer"}
        keyed = derivation in {"pseudoniem", "bijzondere_code"}
        if derivation != "groep" and any(known[source].privacy == "strafrechtelijk" for source in sources):
            raise ContractError(
                f"{path}: purpose `{name}` takes `{column}` from criminal data as it stands: take codes together so "
                "that none tells of an offence (`bewerking: groep`), or leave it out"
            )
        if not keyed and any(known[source].privacy in closed for source in sources):
            raise ContractError(
                f"{path}: purpose `{name}` takes `{column}` from an identifier without a pseudonym: "
                "identifiers end at the vault, set `bewerking: pseudoniem` or leave it out"
            )
        sql_type = DERIVATIONS[derivation] or known[sources[0]].sql_type
        told = how.get("omschrijving", "")
        derived.append(Derived(column, derivation, sources, how.get("soort"), sql_type, told, how))
    keeps = item.get("behoud") or {}
    _expect_all(path, f"purpose `{name}`: behoud", keeps, ("op_peildatum", "komt_voor_in", "peildata", "waar"))
    made = {column.name: column for column in derived}
    between = tuple(keeps.get("op_peildatum") or ())
    if len(between) not in (0, 2):
        raise ContractError(
            f"{path}: purpose `{name}`: behoud.op_peildatum: two columns, as `[geldig_van, geldig_tot]`"
        )
    _expect_all(path, f"purpose `{name}`: behoud.op_peildatum", between, tuple(made))
    needed = _needed(path, name, keeps.get("komt_voor_in"), made)
    if "peildata" in keeps:
        needed = _asking(path, name, keeps["peildata"], needed, [made[column].derivation for column in between])
    only = keeps.get("waar")
    if only is not None:
        booleans = tuple(column.name for column in derived if column.sql_type == "BOOLEAN")
        _expect(path, f"purpose `{name}`: behoud.waar", only, booleans)
    return Purpose(
        name,
        item.get("omschrijving", ""),
        tuple(derived),
        bool(item.get("uniek")),
        (between[0], between[1]) if between else None,
        needed,
        only,
    )


def _needed(path: Path, purpose: str, item: Any, made: Mapping[str, Derived]) -> Needed | None:
    """`komt_voor_in: {persoon_pseudoniem: bus.persoon_pseudoniem}`."""
    if item is None:
        return None
    where = f"purpose `{purpose}`: behoud.komt_voor_in"
    ((column, other),) = item.items() if isinstance(item, dict) and len(item) == 1 else (("", ""),)
    delivery, _, theirs = str(other).partition(".")
    if not (_NAME.fullmatch(delivery) and _NAME.fullmatch(theirs)):
        raise ContractError(f"{path}: {where}: one pseudonym here and one there, as `{{eigen_kolom: levering.kolom}}`")
    if delivery == path.stem:
        raise ContractError(f"{path}: {where}: `{delivery}` is this very delivery: name another of the purpose's")
    _expect(path, where, column, tuple(name for name, each in made.items() if each.derivation == "pseudoniem"))
    return Needed(str(column), delivery, theirs)


def _asking(path: Path, purpose: str, item: Any, needed: Needed | None, between: Sequence[str]) -> Needed:
    """`peildata: bus.statistiekmaand`, of the table by which the persons are known."""
    where = f"purpose `{purpose}`: behoud.peildata"
    delivery, _, column = str(item).partition(".")
    if needed is None or delivery != needed.delivery or not _NAME.fullmatch(column):
        raise ContractError(f"{path}: {where}: a column of the table under `komt_voor_in`, as `levering.kolom`")
    if list(between) != ["eerste_peildatum", "eerste_peildatum"]:
        raise ContractError(f"{path}: {where}: `op_peildatum` must name two columns made by eerste_peildatum")
    return replace(needed, dates=column)


def _expect_all(path: Path, what: str, values: Any, allowed: Sequence[str]) -> None:
    for value in values:
        _expect(path, what, value, allowed)


def _check(contract: Contract) -> None:
    """What holds between the parts of a contract."""
    from quality.privacy.pseudonyms import KINDS
    from quality.repairs import RULES

    where = contract.source
    made = [column.name for purpose in contract.purposes.values() for column in purpose.columns]
    for name in (*contract.names, *contract.purposes, *made):
        if not _NAME.fullmatch(name):  # they become tables and columns, in SQL of other programs too
            raise ContractError(f"{where}: `{name[:40]}` is no name: small letters, digits and _, a letter first")
    if len(set(contract.names)) != len(contract.names):
        raise ContractError(f"{where}: two columns have one name")
    _check_text(contract)
    if not contract.purposes and not contract.placing:
        raise ContractError(f"{where}: no purpose needs this delivery; name one under `doelen`, or do not take it in")
    referred = [*contract.address.values(), *contract.placing.values(), *contract.period.columns.values()]
    for name in referred:
        _expect(where, "a column referred to", name, tuple(contract.names))
    for relation in contract.relations:
        for name in relation.columns:
            _expect(where, "relationships: from", name, tuple(contract.names))
            if contract[name].type != "string":
                raise ContractError(f"{where}: relationships: `{name}` is no text: a relation is one of texts")
        if relation.delivery == contract.name:
            raise ContractError(f"{where}: relationships: a delivery is not held to itself")
    for column in contract.columns:
        if column.window is not None and column.type not in {"date", "timestamp"}:
            raise ContractError(f"{where}: column `{column.name}`: only a date or timestamp has a `venster`")
        if contract.layout.format == "vaste_breedte" and not column.width:
            raise ContractError(f"{where}: column `{column.name}` needs a `breedte` in a file of fixed width")
        if contract.layout.format == "json" and '"' in column.header:
            raise ContractError(f"{where}: column `{column.name}`: a path in JSON has no double quotes")
        for step in column.repairs:
            _expect(where, f"column `{column.name}`: herstel", step.rule, tuple(RULES))
    for purpose in contract.purposes.values():
        for derived in purpose.pseudonyms:
            _expect(where, f"purpose `{purpose.name}`, column `{derived.name}`: soort", derived.kind, tuple(KINDS))
        for derived in purpose.columns:
            _check_leaving(contract, purpose, derived)


def _check_leaving(contract: Contract, purpose: Purpose, derived: Derived) -> None:
    """Hold what leaves the vault as it was delivered to values in which nothing of a person fits by mistake.

    Raises:
        ContractError: a name, or the number of a person that moved a column, would stand in the warehouse.
    """
    if derived.derivation not in ("kopie", "hele_euros"):
        return
    source = contract[derived.sources[0]]
    where = f"{contract.source}: purpose `{purpose.name}`, column `{derived.name}`"
    if source.personal and source.type == "string" and not _is_bound(source):
        raise ContractError(
            f"{where}: any text in `{source.name}` would leave the vault, a name that stands there by mistake too: "
            "give it `codes` or a `pattern` that refuses other text, or take it together (`groep`)"
        )
    beside = any(column.privacy == "direct_identificerend" for column in contract.columns)
    if source.type in ("integer", "number") and (source.personal or beside) and not _is_small(source):
        raise ContractError(
            f"{where}: any number in `{source.name}` would leave the vault, a BSN that stands there by mistake too: "
            f"give it a `minimum` and a `maximum` of fewer than {_DIGITS_OF_A_BSN} digits, `codes` or a `pattern`, or "
            "cut it (`klasse`)"
        )


def _is_bound(column: Column) -> bool:
    """Whether a row is refused in which the column holds other text than was agreed."""
    rules = {"codelijst": column.codes, "patroon": column.options.get("pattern")}
    return any(bound and column.severity(rule) != "warning" for rule, bound in rules.items())


def _is_small(column: Column) -> bool:
    """Whether a row is refused in which a column of numbers holds one as long as a BSN."""
    limits = [column.options.get(end) for end in ("minimum", "maximum")]
    short = all(limit is not None and abs(limit) < 10 ** (_DIGITS_OF_A_BSN - 1) for limit in limits)
    return _is_bound(column) or (short and column.severity("bereik") != "warning")


_DIGITS_OF_A_BSN = 9


def _expect(path: Path, what: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        close = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"expected one of: {', '.join(allowed)}"
        raise ContractError(f"{path}: {what}: `{value}` is not known; {hint}")
