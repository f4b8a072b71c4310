"""Coordinates: the polynomials agree with PROJ, and only the declared faults of a pair are mended, once."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafabriek.warehouse import load_extension
from quality.contracts.model import Coordinates
from quality.coordinates import REPAIRS, degrees, metres, repair, square_500m

BOTH = Coordinates("lat", "lon", tuple(REPAIRS))


def test_the_polynomials_agree_with_proj_to_a_metre() -> None:
    with duckdb.connect() as con:
        load_extension(con, "spatial")
        for x in range(20_000, 280_000, 40_000):
            for y in range(310_000, 620_000, 40_000):
                query = "SELECT ST_Transform(ST_Point(?, ?), 'EPSG:28992', 'EPSG:4326') AS p"
                found = con.execute(f"SELECT ST_X(p), ST_Y(p) FROM ({query})", [x, y]).fetchone()
                assert degrees(float(x), float(y)) == pytest.approx(found, abs=1e-5)
        square = con.execute(f"SELECT {square_500m('52.08', '4.31')}, {square_500m('NULL', '4.31')}").fetchone()
    assert square == ("E0810N4550", None)


@given(st.floats(10_000, 280_000), st.floats(305_000, 620_000))
def test_there_and_back_again(x: float, y: float) -> None:
    assert metres(*degrees(x, y)) == pytest.approx((x, y), abs=1)


@pytest.mark.parametrize(
    ("given", "declared", "mended"),
    [
        (("52.08", "4.31"), BOTH, {}),
        (("4.31", "52.08"), BOTH, {"coordinaten_verwisseld": 1}),
        (("455183.8", "81160"), BOTH, {"coordinaten_rd": 1}),
        (("81160", "455183.8"), BOTH, {"coordinaten_verwisseld": 1, "coordinaten_rd": 1}),
        (("4.31", "52.08"), Coordinates("lat", "lon", ("coordinaten_rd",)), {}),
        (("48.85", "2.35"), BOTH, {}),
        (("hier", "daar"), BOTH, {}),
        ((None, "4.31"), BOTH, {}),
    ],
)  # fmt: skip
def test_only_what_was_declared_is_mended_and_once(
    given: tuple[str | None, str], declared: Coordinates, mended: dict[str, int]
) -> None:
    rows = pl.DataFrame({"lat": [given[0]], "lon": [given[1]]}, schema={"lat": pl.String, "lon": pl.String})
    found, counts, touched = repair(rows, declared)
    assert counts == mended
    assert touched.to_list() == [bool(mended)]
    if mended:
        assert [float(value) for value in found.row(0)] == pytest.approx([52.08, 4.31], abs=1e-5)
        assert repair(found, declared)[1] == {}
    else:
        assert found.equals(rows)
