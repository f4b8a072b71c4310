"""Every kind: its file arrives, is judged as its labels say, and feeds raw tables in which no identity is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.intake import take_inbox
from assets.deliveries.judging import Judged, Tally, judged
from assets.deliveries.layouts import Source, read, render
from assets.deliveries.purposes import derive
from datafabriek.sample import population
from datafabriek.sample.deliveries import write_deliveries
from datafabriek.sample.kinds.space import MAKERS
from datafabriek.warehouse import warehouse
from quality.checks.deliveries import identifying_values, other_columns
from quality.contracts.model import Contract, load
from quality.privacy.keys import ensure_key

SEED, SCALE = 7, 0.01
KINDS = sorted(MAKERS)


@dataclass(frozen=True)
class Made:
    """A delivery of one kind as it was written, and as it was judged."""

    name: str
    file: str
    body: bytes
    labels: pl.DataFrame
    records: int
    tally: Tally
    parts: list[Judged]


@pytest.fixture(scope="module")
def people() -> population.Population:
    """A hundredth of the inhabitants."""
    return population.generate(SEED, SCALE)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, people: population.Population) -> Made:
    """One kind after the other, with its dirt."""
    name: str = request.param
    ((file, body, labels, records),) = list(MAKERS[name](people, SEED))
    contract, tally = load(name), Tally()
    parts = list(judged(Source(file, body), contract, contract.period.of_file(file), tally))
    return Made(name, file, body, labels, records, tally, parts)


def test_a_kind_is_judged_as_its_labels_say(made: Made) -> None:
    refused = {line for part in made.parts for line in part.refused[LINE].to_list()}
    expected = set(made.labels.filter(uitkomst="quarantined")["regel"].to_list())
    assert refused == expected
    printed = len(made.labels.filter(soort="afdrukregel"))
    assert made.tally.delivered == made.records + printed == made.tally.accepted + made.tally.refused
    repaired = {(f.column, f.rule) for f in made.tally.findings.values() if f.severity == "hersteld"}
    warned = {f.column for f in made.tally.findings.values() if f.severity == "warning"}
    for kind, column, outcome in made.labels.select("soort", "veld", "uitkomst").unique().iter_rows():
        if outcome == "repaired":
            assert column in {name for name, _ in repaired} or kind in {rule for _, rule in repaired}, kind
        if outcome == "warned":
            assert warned, kind


def test_a_clean_file_has_nothing_refused(made: Made) -> None:
    contract = load(made.name)
    rows = pl.concat(piece.rows for piece in read(Source(made.file, made.body), contract))
    bad = made.labels.filter(pl.col("uitkomst") != "repaired")["regel"].to_list()
    clean = render(rows.filter(~pl.col(LINE).is_in(bad)).drop(LINE), contract)
    tally = Tally()
    for _ in judged(Source(made.file, clean), contract, contract.period.of_file(made.file), tally):
        pass
    assert (tally.refused, tally.delivered) == (0, len(rows) - len(rows.filter(pl.col(LINE).is_in(bad))))


def test_a_kind_feeds_its_raw_tables_and_no_identity_is_left_there(made: Made, make: Any, tmp_path: Path) -> None:
    contract = load(made.name)
    names = ["adressen", made.name] if contract.address else [made.name]
    factory = make(dict.fromkeys(names))
    if contract.address:
        write_deliveries(factory.paths.inbox, SEED, SCALE, ["adressen"])
        take_inbox(factory, "adressen")
    folder = factory.paths.inbox / made.name
    folder.mkdir()
    (folder / made.file).write_bytes(made.body)
    outcome = take_inbox(factory, made.name)[0]
    assert (outcome.status, outcome.accepted) == ("ontvangen", made.tally.accepted), outcome.reason
    closed = [column.name for column in contract.columns if column.privacy == "direct_identificerend"]
    values = pl.concat(part.accepted for part in made.parts).select(pl.col(closed).cast(pl.String))
    secrets = {value for name in closed for value in values[name].drop_nulls().unique() if len(value) > 6}
    for purpose in contract.purposes.values():
        table = derive(factory, ensure_key(factory.paths), made.name, purpose.name)
        assert 0 < table.rows <= outcome.accepted
        schema = f"raw_{purpose.name}"
        with warehouse(factory.paths, factory.resources) as con:
            assert other_columns(con, schema, made.name, purpose) == []
            assert identifying_values(con, schema, made.name) == {}
            frame = con.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {schema}.{made.name}").pl()
        for column in purpose.columns:
            found = frame[column.name].drop_nulls()
            assert len(found), f"{column.name} is empty"
            assert not secrets & set(found.to_list()), column.name
    assert not [path for path in factory.paths.inbox.rglob("*") if path.is_file()]
    for path in factory.paths.root.rglob("*"):
        if path.is_file() and path != factory.paths.key_file:
            data = path.read_bytes()
            assert not [value for value in list(secrets)[:40] if value.encode() in data], path.name


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_kind_and_a_broken_one_are_refused_with_the_reason(name: str) -> None:
    contract = load(name)
    empty = render(pl.DataFrame(schema=dict.fromkeys(contract.names, pl.String)), contract)
    broken = {"NUL byte": empty + b"\0", "a ZIP or XLSX file": b"PK\x03\x04"}
    if contract.layout.format == "werkblad":
        broken = {"bestand": empty[:-200]}
    for told, data in {"holds no rows": empty, **broken}.items():
        with pytest.raises(DeliveryError, match=told):
            list(judged(Source("bestand", data), contract, None, Tally()))


HOSTILE = [
    "'; DROP TABLE vault.aanvoer.lisa; --", '=HYPERLINK("http://kwaad")', "../../../etc/passwd", "${jndi:ldap://x}",
    "<script>alert(1)</script>", "\u202e\u200bomgekeerd", "x" * 30_000,
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_hostile_values_are_kept_as_text_or_refused(name: str) -> None:
    contract = load(name)
    encoding = contract.layout.encoding
    rows = [value.encode(encoding, "replace").decode(encoding) for value in HOSTILE]
    frame = pl.DataFrame(dict.fromkeys(contract.names, rows))
    tally = Tally()
    with pytest.raises(DeliveryError) as caught:
        list(judged(Source("bestand", render(frame, contract)), contract, None, tally))
    assert f"{len(rows)} of {len(rows)} rows are refused" in str(caught.value) or "may never be broken" in str(
        caught.value
    )
    assert tally.refused == tally.delivered == len(rows)
    for finding in tally.as_json():
        personal = finding["column"] and contract[finding["column"]].personal
        assert all(len(example) <= (20 if personal else 40) for example in finding["examples"])


words = st.text(st.characters(codec="cp1252", exclude_categories=["Cc", "Cs"]), max_size=8)


def _same(contract: Contract, rows: list[str]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    frame = pl.DataFrame(dict.fromkeys(contract.names, rows))
    frame = frame.with_columns(
        # what stands around the list is one value for all its records
        pl.lit(rows[0]).alias(column.name)
        for column in contract.columns
        if column.header.startswith("../")
    )
    found = pl.concat(piece.rows for piece in read(Source("bestand", render(frame, contract)), contract))
    yield found.select(contract.names).fill_null(""), frame


@pytest.mark.parametrize("name", KINDS)
@given(rows=st.lists(words, min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=12, deadline=None)
def test_parsing_what_was_rendered_gives_it_back(name: str, rows: list[str]) -> None:
    contract = load(name)
    if contract.layout.encoding == "cp1252" and not "".join(rows).isascii():
        rows = [row.encode("ascii", "replace").decode() for row in rows]  # see test_layouts for its letters
    if contract.layout.format == "werkblad":
        rows = [row if row.strip() else "leeg" for row in rows]  # a blank row of a worksheet is no record
    for found, frame in _same(contract, rows):
        assert found.equals(frame)


@pytest.mark.parametrize("name", KINDS)
def test_only_this_name_says_the_period(name: str, people: population.Population) -> None:
    file = next(iter(MAKERS[name](people, SEED)))[0]
    period = load(name).period
    assert period.of_file(file)
    assert not any(period.of_file(other) for other in (f"../{file}", f"{file}/..", f"{file}\n.exe", "", f"x{file}"))


@pytest.mark.parametrize(
    ("moments", "accepted", "doubled"),
    [
        (["2020-10-25T00:30:00Z", "2020-10-25T01:30:00Z", "2020-10-25T02:30:00Z"], 3, 0),
        (["2020-10-25T02:30:00+02:00", "2020-10-25T02:30:00+01:00"], 2, 0),
        (["2020-10-25T00:30:00Z", "2020-10-25T02:30:00+02:00"], 1, 1),  # one instant, written in two ways
        (["25-10-2020 02:30", "25-10-2020 02:30"], 1, 1),  # which of the two hours is nowhere told
        (["25-10-2020 03:30", "25-10-2020 03:30"], 1, 0),
        (["2020-10-18T00:30:00Z", "2020-10-18T00:30:00+00:00"], 1, 0),
    ],
)
def test_the_hour_that_comes_twice_is_two_where_the_source_tells(
    moments: list[str], accepted: int, doubled: int
) -> None:
    """Two moments became one local time, and the second count of that night was refused as a key that came before."""
    contract, tally = replace(load("passanten"), max_refused=1.0), Tally()
    head = ";".join(column.header for column in contract.columns)
    rows = [f"s1;uur;plein;{moment};{place};stad;52.1;4.3" for place, moment in enumerate(moments)]
    parts = list(judged(Source("tellingen", "\n".join([head, *rows]).encode()), contract, "2020-10", tally))
    assert (tally.accepted, tally.refused) == (accepted, len(moments) - accepted)
    assert sum(f["count"] for f in tally.as_json() if f["rule"] == "dubbel_uur") == doubled
    assert all(len(part.accepted) == accepted for part in parts)
