"""Risk measures and cells from microdata."""

from __future__ import annotations

import duckdb
import pytest

from quality.disclosure.errors import DisclosureError
from quality.disclosure.microdata import anonymity, cells_from_microdata


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute(
        """CREATE TABLE m AS SELECT * FROM (VALUES
        ('a', 1, 'x', 10.0, 'h1'), ('a', 1, 'x', 20.0, 'h1'), ('a', 1, 'y', 5.0, 'h2'),
        ('b', 1, 'x', 7.0, 'h3'), ('b', 1, 'x', 8.0, 'h4'), ('b', 2, 'y', 1.0, 'h2'), ('b', NULL, 'y', 2.0, 'h6')
        ) t(wijk, leeftijd, ziekte, omzet, houder)"""
    )
    return con


def test_k_l_and_t(con: duckdb.DuckDBPyConnection) -> None:
    found = anonymity(con, "m", ["wijk", "leeftijd"], "ziekte", k=2, diversity=2, closeness=0.4)
    assert (found.classes, found.k, found.diversity) == (4, 1, 1)
    # everyone: 4/7 x, 3/7 y; a class with y alone differs by 4/7
    assert found.closeness == pytest.approx(4 / 7)
    failing = found.failing.select("wijk", "leeftijd", "records", "diversity").rows()
    assert failing == [("b", 2, 1, 1), ("b", None, 1, 1), ("b", 1, 2, 1)]


def test_k_alone(con: duckdb.DuckDBPyConnection) -> None:
    found = anonymity(con, "m", ["wijk"], k=4)
    assert (found.k, found.diversity, found.closeness) == (3, None, None)
    assert found.failing["wijk"].to_list() == ["a"]
    with pytest.raises(DisclosureError):
        anonymity(con, "m", [])


def test_cells_with_the_two_largest_contributors_of_holdings(con: duckdb.DuckDBPyConnection) -> None:
    cells = cells_from_microdata(con, "m", {"geo": ["wijk"], "ziekte": ["ziekte"]}, amount="omzet", holding="houder")
    rows = {(g, z): rest for g, z, *rest in cells.iter_rows()}
    assert rows["a", "x"] == [30.0, 1, 30.0, 0.0]
    assert rows["a", "Total"] == [35.0, 2, 30.0, 5.0]
    assert rows["Total", "y"] == [8.0, 2, 6.0, 2.0]
    assert rows["Total", "Total"] == [53.0, 5, 30.0, 8.0]


def test_counts_with_margins(con: duckdb.DuckDBPyConnection) -> None:
    cells = cells_from_microdata(con, "m", {"geo": ["wijk"], "ziekte": ["ziekte"]})
    assert dict(zip(cells.select("geo", "ziekte").iter_rows(), cells["value"], strict=True))["b", "Total"] == 4
