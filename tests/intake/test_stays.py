"""Where someone was on the dates on which a purpose asks: the same as by all that the register has, and no more."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.deliveries.purposes import _stays
from quality.contracts.model import load

PURPOSE = load("brp").purposes["bijstand"]
MONTHS = [date(2019 + month // 12, month % 12 + 1, 1) for month in range(24)]

month = st.sampled_from(MONTHS)
period = st.tuples(st.integers(1, 3), month, st.none() | month, st.none() | st.sampled_from(["BU1", "BU2"]))

WHERE = """SELECT persoon_pseudoniem, dag, buurt_code FROM {table} JOIN (SELECT unnest(?::DATE[]) AS dag)
    ON geldig_van <= dag AND dag < coalesce(geldig_tot, DATE '9999-12-31')
    QUALIFY row_number() OVER (PARTITION BY persoon_pseudoniem, dag
        ORDER BY geldig_van DESC NULLS LAST, buurt_code ASC NULLS LAST) = 1
    ORDER BY ALL"""
"""How the models place a person (macro geplaatst_door_brp)."""


@given(st.lists(period, max_size=12), st.lists(month, unique=True, max_size=6))
@settings(max_examples=60, deadline=None)
def test_on_every_date_someone_is_where_the_register_has_her(periods: list[Any], dates: list[date]) -> None:
    """Periods may overlap, end before they begin, and be there twice."""
    with duckdb.connect() as con:
        con.execute("""CREATE TABLE _periods (persoon_pseudoniem INTEGER, buurt_code VARCHAR, gemeente_code VARCHAR,
            indeling_jaar INTEGER, geldig_van DATE, geldig_tot DATE, levering VARCHAR)""")
        for person, begin, end, buurt in periods:
            con.execute("INSERT INTO _periods VALUES (?, ?, 'GM1', 2020, ?, ?, 'l')", [person, buurt, begin, end])
        con.execute(f"CREATE TABLE stays AS FROM {_stays(con, PURPOSE, 'persoon_pseudoniem', dates)}")
        asked = [dates]
        truth = con.execute(WHERE.format(table="_periods"), asked).fetchall()
        assert con.execute(WHERE.format(table="stays"), asked).fetchall() == truth
        stays = con.execute("SELECT persoon_pseudoniem, geldig_van, geldig_tot, buurt_code FROM stays").fetchall()
    assert {day for _, begin, end, _ in stays for day in (begin, end)} <= {*dates, None}
    for who, begin, _, buurt in stays:  # nor a trace of a move that no column shows
        assert (who, begin, buurt) not in {(other, end, there) for other, _, end, there in stays}
    assert len({(who, begin) for who, begin, _, _ in stays}) == len(stays)
