"""Deliveries that the factory fetches itself: a PostgreSQL query, or a layer of an OGC service in the PDOK manner.

Belongs here: how what a source has becomes a file in the inbox, whole and in one step. From there it is a delivery as
any other: fingerprint, judgement and vault hold for it, and what did not change since is recognised. Does not belong
here: what a value may be. No message holds a connection string or a fetched value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from assets.deliveries.delivered import DeliveryError
from datafabriek.config import Delivery, FeatureSource, PostgresSource, Settings
from datafabriek.warehouse import load_extension, memory, quoted
from quality.contracts.model import PERIODS, Column, Contract, Layout

_SUFFIX = {"postgres": "parquet", "ogc": "geojson", "wfs": "geojson"}
_PARTS = {"jaar": r"(?P<jaar>\d{4})", "maand": r"(?P<maand>\d{2})", "dag": r"(?P<dag>\d{2})",
          "halfjaar": r"(?P<halfjaar>H[12])"}  # fmt: skip


def arranged(contract: Contract, name: str, delivery: Delivery) -> Contract:
    """The contract as it reads what its source makes: another layout and file name, the same agreement otherwise."""
    source = delivery.source
    if source is None:
        return contract
    parts = "-".join(_PARTS[part] for part in PERIODS[contract.period.kind])
    pattern = re.compile(rf"^{re.escape(name)}_{parts}\.{_SUFFIX[source.kind]}$")
    if isinstance(source, PostgresSource):
        layout = Layout("parquet", ";", "utf-8")
        columns = [replace(column, physical_name=source.columns.get(column.name, "")) for column in contract.columns]
    else:
        layout = Layout("json", ";", "utf-8", {"records": ["features"], "overig": "negeren"})
        columns = [replace(column, physical_name=_place(column, contract, source)) for column in contract.columns]
    return replace(
        contract,
        layout=layout,
        columns=tuple(columns),
        period=replace(contract.period, pattern=pattern),
        print_line=None,
    )


def _place(column: Column, contract: Contract, source: FeatureSource) -> str:
    """Where a feature has a column."""
    pair = contract.coordinates
    if column.name in source.columns:
        return f"properties/{source.columns[column.name]}"
    if pair is not None and column.name in (pair.longitude, pair.latitude):
        return f"geometry/coordinates/{int(column.name == pair.latitude)}"
    return column.header if "/" in column.header else f"properties/{column.header}"


def period_of(contract: Contract, source: PostgresSource | FeatureSource, today: date) -> str:
    """The period that is fetched today, as its source says: the current one, or the one before."""
    kind = contract.period.kind
    day = today
    if source.period == "previous":
        first = {
            "dag": today,
            "maand": today.replace(day=1),
            "halfjaar": date(today.year, 1 if today.month < 7 else 7, 1),
            "jaar": date(today.year, 1, 1),
        }[kind]
        day = first - timedelta(days=1)
    half = f"{day.year}-H{1 if day.month < 7 else 2}"
    return {"dag": f"{day}", "maand": f"{day:%Y-%m}", "halfjaar": half, "jaar": f"{day.year}"}[kind]


def fetch(settings: Settings, name: str, contract: Contract, today: date | None = None) -> Path | None:
    """Put what a delivery's source has now into its inbox, in one step; None where it has no source.

    Args:
        settings: the factory.
        name: the delivery.
        contract: from `arranged`.
        today: the day to fetch for.

    Raises:
        DeliveryError: the source cannot be reached or does not answer as agreed; the inbox is as it was.
    """
    source = settings.deliveries[name].source
    if source is None:
        return None
    period = period_of(contract, source, today or datetime.now(UTC).date())
    folder = settings.paths.inbox / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder / f"{name}_{period}.{_SUFFIX[source.kind]}"
    part = folder / f".{target.name}.{os.getpid()}.part"
    try:
        part.touch(mode=0o600)
        if isinstance(source, PostgresSource):
            _query(settings, name, contract, source, period, part)
        else:
            from assets.deliveries.features import collect

            with part.open("wb") as file:
                collect(name, source, settings.cbs.ca_bundle, file)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


# --- PostgreSQL ------------------------------------------------------------------------------------------------

_TOLD = re.compile(
    r'(column|relation|function|schema|table) "?[\w.(), ]{1,100}"? does not exist|syntax error at or near "\w{1,40}"'
    r"|permission denied for \w+ \w{1,60}|division by zero|statement timeout|read-only transaction"
)
"""What of PostgreSQL's own words may be told: they name what is in the query, never what is in a row."""


def _query(
    settings: Settings, name: str, contract: Contract, source: PostgresSource, period: str, target: Path
) -> None:
    dsn = os.environ.get(source.dsn_env)
    if not dsn:
        raise DeliveryError(
            f"delivery `{name}`: environment variable {source.dsn_env} is not set: put the connection string in it, "
            "as in postgresql://reader:…@host/database"
        )
    begin, end = _span(contract, period)
    query = re.sub(r"(?<!:):begin\b", f"DATE '{begin}'", source.query.strip().rstrip(";"))
    query = re.sub(r"(?<!:):eind\b", f"DATE '{end}'", query)
    with _server(settings, name, dsn) as con, _told(name, "the query fails"):
        rows = con.execute("SELECT * FROM postgres_query('bron', ?) LIMIT 0", [query])
        found = {item[0].lower(): item[0] for item in rows.description or []}
        lacking = [column.header for column in contract.columns if column.header.lower() not in found]
        if lacking:
            raise DeliveryError(
                f"delivery `{name}`: the query gives no column `{lacking[0]}`: select it under that name, or set "
                "`source.columns` in factory.yaml"
            )
        # only what was agreed; in one order, so that what did not change has the same fingerprint
        listed = ", ".join(quoted(found[column.header.lower()]) for column in contract.columns)
        con.execute(
            f"COPY (SELECT {listed} FROM postgres_query('bron', $query) ORDER BY ALL) TO '{_escaped(target)}' "
            "(FORMAT parquet, COMPRESSION zstd)",
            {"query": query},
        )


def _span(contract: Contract, period: str) -> tuple[date, date]:
    end = contract.period.end(period)
    months = {"dag": None, "maand": 0, "halfjaar": 5, "jaar": 11}[contract.period.kind]
    return (end if months is None else end.replace(month=end.month - months, day=1)), end


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")


@contextmanager
def _server(settings: Settings, name: str, dsn: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the server is `bron`, to be read from only."""
    with memory(settings.paths, settings.resources.model_copy(update={"threads": 1})) as con:
        load_extension(con, "postgres_scanner")
        # the statement holds the password: it is run here and nowhere shown
        escaped = dsn.replace("'", "''")
        with _told(name, "the server cannot be used"):
            con.execute(f"ATTACH '{escaped}' AS bron (TYPE postgres, READ_ONLY)")
        yield con


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Tell of a failure in words of our own: the engine's may hold the connection string, or a value."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if "password authentication failed" in text or "no password supplied" in text:
            reason, remedy = "user or password is wrong", "correct the connection string"
        elif "Connection refused" in text or "could not translate host name" in text or "timeout expired" in text:
            reason, remedy = "it does not answer", "check host and port, and whether the server is up"
        elif "does not exist" in text and "database" in text:
            reason, remedy = "there is no such database", "correct the connection string"
        else:
            found = _TOLD.search(text)
            reason = found[0] if found else type(error).__name__
            remedy = "correct `source.query` in factory.yaml" if found else "try the query with psql"
        raise DeliveryError(f"delivery `{name}`: {what} ({reason}): {remedy}") from None
