"""Where a person stands in the vault: under her citizen service number (BSN), and under what else names her.

Belongs here: which columns hold a BSN, under which names and other numbers the rows of a BSN know someone, and the rows
that hold those without that BSN: a partner's row, a remark, a delivery that knows persons by another number. A name may
be another's too, so a person looks at what is found before it is blotted out. Does not belong here: originals, raw
tables and what is done about them (erasure).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb

from assets.deliveries import register
from assets.deliveries.register import DELIVERY, NAMES_ONE
from datafabriek.warehouse import VAULT, quoted
from quality.contracts.model import Contract
from quality.privacy.linkages import RAW
from quality.privacy.pseudonyms import KINDS

BSN = KINDS["bsn"]

Known = Mapping[str, Contract | None]
"""Deliveries that the vault has known, with their contract; None where that is gone."""


@dataclass(frozen=True)
class Place:
    """Where a person stands: `kluis`, `quarantaine`, `origineel`, a file's name or a table; of which delivery.

    `rows` of an original are records. `by` is empty where her BSN stands there, else the column by which what does was
    known as hers.
    """

    place: str
    delivery: str
    delivery_id: str
    rows: int
    by: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a delivery in the vault, the text of its rows, and when a row is hers (`?` is her BSN)."""

    place: str
    delivery: str
    name: str
    text: str
    hers: str

    def values(self, number: str) -> list[str]:
        """The parameters of `hers`."""
        return [number] * self.hers.count("?")


def number_columns(contract: Contract) -> list[str]:
    """Columns with a BSN: keyed as one for a purpose, or an identifier that is held to the eleven-test."""
    keyed = {
        column.sources[0]
        for purpose in contract.purposes.values()
        for column in purpose.pseudonyms
        if column.kind == BSN.name
    }
    tested = {
        column.name
        for column in contract.columns
        if column.privacy == "direct_identificerend" and any(rule.implementation == "elfproef" for rule in column.rules)
    }
    return [name for name in contract.names if name in keyed | tested]


def tables(con: duckdb.DuckDBPyConnection, known: Known) -> Iterator[Table]:
    """All tables of deliveries that the vault has."""
    query = "SELECT schema_name FROM duckdb_tables() WHERE (database_name, table_name) = (?, ?)"
    for name, contract in known.items():
        there = {row[0] for row in con.execute(query, [VAULT, name]).fetchall()}
        # where no contract says which columns hold a number, any may
        columns = number_columns(contract) if contract else texts(con, name)
        if "aanvoer" in there:
            where = " OR ".join(f"{quoted(column)} = ?" for column in columns) or "false"
            listed = ", ".join(map(quoted, texts(con, name)))
            yield Table("kluis", name, register.table(name), f"concat_ws(' ', {listed or repr('')})", where)
        if "quarantaine" in there:
            # as delivered: zeros in front may be lost, and in a file of fixed width fields adjoin
            where = "regexp_matches(record, '(^|[^0-9])0*' || ltrim(?, '0') || '([^0-9]|$)')"
            is_fixed = contract is None or contract.layout.format == "vaste_breedte"
            where += " OR contains(record, ?)" if is_fixed else ""
            yield Table("quarantaine", name, register.quarantine(name), "record", where)


def texts(con: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    """Columns of a delivery's accepted rows that hold text."""
    query = """SELECT column_name FROM duckdb_columns() WHERE (database_name, schema_name, table_name, data_type) =
        (?, 'aanvoer', ?, 'VARCHAR') AND column_name <> ?"""
    return [row[0] for row in con.execute(query, [VAULT, name, DELIVERY]).fetchall()]


def in_vault(con: duckdb.DuckDBPyConnection, known: Known, number: str) -> Iterator[Place]:
    """Rows with her BSN."""
    for table in tables(con, known):
        query = f"SELECT {DELIVERY}, count(*) FROM {table.name} WHERE {table.hers} GROUP BY 1 ORDER BY 1"
        for delivery_id, rows in con.execute(query, table.values(number)).fetchall():
            yield Place(table.place, table.delivery, delivery_id, rows)


def remove(con: duckdb.DuckDBPyConnection, known: Known, number: str) -> None:
    """Delete the rows with her BSN."""
    for table in tables(con, known):
        con.execute(f"DELETE FROM {table.name} WHERE {table.hers}", table.values(number))


# --- by what else ----------------------------------------------------------------------------------------------

GIVEN = "opgegeven"
"""Origin of what was not found but given."""

_OF_A_PLACE = re.compile(r"straat|postcode|huis|toevoeging|plaats|nummeraanduiding|verblijfsobject")
"""Columns with an address, which is of whoever lives there."""

_OF_MANY = re.compile(r"^(voor|initialen|roep|tussen)")
"""Columns that never name one person by themselves."""

_LEAST_NAME, _LEAST_NUMBER = 3, 6
"""Characters of a name, and of a number, that say more than chance does."""


@dataclass(frozen=True)
class Clue:
    """Words that name her where they stand in one record, and the column by which they are known as hers.

    They are found as whole words: in an original of fixed width, where fields adjoin, not always. A namesake bears them
    too where they are not `hers_alone`.
    """

    origin: str
    words: tuple[str, ...]
    hers_alone: bool = True

    @property
    def is_number(self) -> bool:
        """Whether it is a number, and no name."""
        return any(map(str.isdigit, self.words[0]))

    def is_in(self, text: str) -> bool:
        """Whether all its words stand in a text."""
        return all(_word(word).search(text) for word in self.words)

    @cached_property
    def needles(self) -> list[bytes]:
        """Per word what must stand in a record as it was delivered, in small letters; quickly looked for."""
        return [max(re.findall(r"[!-~]+", _plain(word).lower()), key=len, default="").encode() for word in self.words]

    def blotted(self, text: str) -> str:
        """A text in which all its words stand, with a `*` for every character of them: as long as it was."""
        if self.is_in(text):
            for word in self.words:
                text = _word(word).sub(lambda found: "*" * len(found[0]), text)
        return text

    @property
    def patterns(self) -> list[str]:
        """Its words, as RE2 finds them."""
        return [rf"(^|[^\p{{L}}\p{{N}}]){_body(word)}($|[^\p{{L}}\p{{N}}])" for word in self.words]

    def holds(self, text: str) -> str:
        """`is_in` in SQL, of an expression; its parameters are `patterns`."""
        return " AND ".join(f"regexp_matches({text}, ?, 'i')" for _ in self.words)


def given(text: str) -> Clue | None:
    """A clue that somebody typed: a number or a full name; None where it is too short to say anything."""
    clue = Clue(GIVEN, (" ".join(text.split()),))
    return clue if len(clue.words[0]) >= _LEAST_NUMBER else None


def clues(con: duckdb.DuckDBPyConnection, known: Known, number: str) -> list[Clue]:
    """Under which names and other numbers the vault knows the person of a BSN.

    A number counts that stands in no row of another; so does a last name. Of a name that others bear too, all parts
    must stand in one record.
    """
    found: list[Clue] = []
    for table in tables(con, known):
        contract = known[table.delivery]
        if contract is None or table.place != "kluis":
            continue
        own = number_columns(contract)
        columns = [
            column.name
            for column in contract.columns
            if column.privacy in NAMES_ONE and column.type == "string" and column.name not in own
            if not _OF_A_PLACE.search(column.name)
        ]
        if columns and own:
            listed = ", ".join(f"trim({quoted(column)})" for column in columns)
            query = f"SELECT DISTINCT {listed} FROM {table.name} WHERE {table.hers}"
            for row in con.execute(query, table.values(number)).fetchall():
                found += _of_row(con, table, dict(zip(columns, row, strict=True)), number)
    return list(dict.fromkeys(found))


def _of_row(con: duckdb.DuckDBPyConnection, table: Table, row: Mapping[str, str | None], number: str) -> Iterator[Clue]:
    names = dict[str, str]()
    for column, value in row.items():
        clue = Clue(f"{table.delivery}.{column}", (value or "",))
        if len(clue.words[0]) < (_LEAST_NUMBER if clue.is_number else _LEAST_NAME):
            continue
        if not clue.is_number:
            names[column] = clue.words[0]
        if (clue.is_number or not _OF_MANY.search(column)) and _is_hers_alone(con, table, {column: value}, number):
            yield clue
    if len(names) > 1:
        is_hers_alone = _is_hers_alone(con, table, names, number)
        told = "hele naam" if is_hers_alone else "naam die een ander ook draagt"
        yield Clue(f"{table.delivery}: {told}", tuple(names.values()), is_hers_alone)


def _is_hers_alone(con: duckdb.DuckDBPyConnection, table: Table, of: Mapping[str, str | None], number: str) -> bool:
    others = " AND ".join(f"trim({quoted(column)}) = ?" for column in of)
    query = f"SELECT 1 FROM {table.name} WHERE {others} AND ({table.hers}) IS NOT TRUE LIMIT 1"
    return con.execute(query, [*of.values(), *table.values(number)]).fetchone() is None


def beside(con: duckdb.DuckDBPyConnection, known: Known, number: str, by: Sequence[Clue]) -> Iterator[Place]:
    """Rows that hold a clue and not her BSN."""
    for table in tables(con, known):
        for clue in by:
            query = f"""SELECT {DELIVERY}, count(*) FROM {table.name} WHERE ({table.hers}) IS NOT TRUE
                AND {clue.holds(table.text)} GROUP BY 1 ORDER BY 1"""
            for delivery_id, rows in con.execute(query, [*table.values(number), *clue.patterns]).fetchall():
                yield Place(table.place, table.delivery, delivery_id, rows, clue.origin)


def known_by(contract: Contract | None) -> list[str]:
    """Columns by which a delivery without BSN knows persons: keyed for a purpose from what names one."""
    if contract is None or number_columns(contract):
        return []
    keyed = {source for purpose in contract.purposes.values() for each in purpose.pseudonyms for source in each.sources}
    return [column.name for column in contract.columns if column.name in keyed and column.privacy in NAMES_ONE]


@dataclass(frozen=True)
class Keyed:
    """A number of hers of which a pseudonym stands in a column of a purpose's table, and by which clue it was found."""

    table: tuple[str, str]
    column: str
    kind: str
    number: str
    by: Clue


def keyed(con: duckdb.DuckDBPyConnection, known: Known, by: Sequence[Clue]) -> list[Keyed]:
    """Under which numbers the tables of purposes know her that have no BSN, by her rows in the vault."""
    found = []
    for table in (table for table in tables(con, known) if table.place == "kluis"):
        contract = known[table.delivery]
        columns = known_by(contract)
        pseudonyms = [
            (purpose.name, each) for purpose in (contract.purposes.values() if contract else ())
            for each in purpose.pseudonyms if set(columns) & set(each.sources)
        ]  # fmt: skip
        for clue in (clue for clue in by if clue.is_number):
            for purpose, each in pseudonyms:
                whole = " || '|' || ".join(f"{quoted(source)}::VARCHAR" for source in each.sources)
                query = f"SELECT DISTINCT {whole} AS n FROM {table.name} WHERE {_is(columns)} AND n IS NOT NULL"
                for (number,) in con.execute(query, [clue.words[0]] * len(columns)).fetchall():
                    named = (f"{RAW}{purpose}", table.delivery)
                    found.append(Keyed(named, each.name, each.kind or "", number, clue))
    return found


def blot(con: duckdb.DuckDBPyConnection, known: Known, by: Sequence[Clue]) -> None:
    """Take clues out of the rows of others, and remove the rows of deliveries that know her by such a number.

    What a contract requires of a row of another stays: the row could not be used without it.
    """
    for table in tables(con, known):
        contract = known[table.delivery]
        columns = known_by(contract)
        kept = {column.name for column in contract.columns if column.required or column.key} if contract else set()
        for clue in by:
            if table.place == "quarantaine":
                con.execute(f"UPDATE {table.name} SET record = '' WHERE {clue.holds('record')}", clue.patterns)
                continue
            if columns and clue.is_number:
                con.execute(f"DELETE FROM {table.name} WHERE {_is(columns)}", [clue.words[0]] * len(columns))
            changed, values = [], list[str]()
            for column in texts(con, table.delivery):
                if column not in kept:
                    value = quoted(column)
                    for _ in clue.patterns:
                        value = rf"regexp_replace({value}, ?, '\1*\2', 'gi')"
                    changed.append(f"{quoted(column)} = nullif({value}, '*')")
                    values += clue.patterns
            if changed:
                statement = f"UPDATE {table.name} SET {', '.join(changed)} WHERE {clue.holds(table.text)}"
                con.execute(statement, [*values, *clue.patterns])


def _is(columns: Sequence[str]) -> str:
    return "(" + " OR ".join(f"trim({quoted(column)}::VARCHAR) = ?" for column in columns) + ")"


def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){_body(word)}(?![^\W_])", re.IGNORECASE)


def _body(word: str) -> str:
    """Zeros in front of a number may be lost, or have been added."""
    return f"0*{_plain(word)}" if word.isdigit() else re.escape(word)


def _plain(word: str) -> str:
    return word.lstrip("0") if word.isdigit() else word
