"""Coordinates of places in the Netherlands: degrees (WGS 84) and metres (Rijksdriehoek, EPSG:28992).

Belongs here: the conversion between the two, and the declared repairs of a pair of columns that should hold degrees.
The polynomials are those of T.G. Schreutelkamp and G.L. Strang van Hees, "Benaderingsformules voor de transformatie
tussen RD- en WGS84-kaartcoördinaten" (Geodesia, 2001): right to a metre or less within the Netherlands, which is
ample for a grid of 500 m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import polars as pl

    from quality.contracts.model import Coordinates

REPAIRS: Mapping[str, str] = {
    "coordinaten_verwisseld": "Breedtegraad en lengtegraad stonden verwisseld en zijn omgedraaid",
    "coordinaten_rd": "Rijksdriehoekscoördinaten (EPSG:28992) omgerekend naar graden (WGS 84)",
}
"""What may be mended in a pair of coordinates, and how the supplier is told."""

LATITUDES, LONGITUDES = (50.7, 53.7), (3.2, 7.3)
"""Between which degrees the Netherlands lies."""

RD_X, RD_Y = (1_000, 300_000), (289_000, 629_000)
"""Between which metres the Netherlands lies on land (Kadaster, RDNAP)."""

_LATITUDE_0, _LONGITUDE_0, _X_0, _Y_0 = 52.15517440, 5.38720621, 155_000, 463_000  # Amersfoort

_TO_LATITUDE = (
    (0, 1, 3235.65389), (2, 0, -32.58297), (0, 2, -0.24750), (2, 1, -0.84978), (0, 3, -0.06550), (2, 2, -0.01709),
    (1, 0, -0.00738), (4, 0, 0.00530), (2, 3, -0.00039), (4, 1, 0.00033), (1, 1, -0.00012),
)  # fmt: skip
_TO_LONGITUDE = (
    (1, 0, 5260.52916), (1, 1, 105.94684), (1, 2, 2.45656), (3, 0, -0.81885), (1, 3, 0.05594), (3, 1, -0.05607),
    (0, 1, 0.01199), (3, 2, -0.00256), (1, 4, 0.00128), (0, 2, 0.00022), (2, 0, -0.00022), (5, 0, 0.00026),
)  # fmt: skip
_TO_X = (
    (0, 1, 190094.945), (1, 1, -11832.228), (2, 1, -114.221), (0, 3, -32.391), (1, 0, -0.705), (3, 1, -2.340),
    (1, 3, -0.608), (0, 2, -0.008), (2, 3, 0.148),
)  # fmt: skip
_TO_Y = (
    (1, 0, 309056.544), (0, 2, 3638.893), (2, 0, 73.077), (1, 2, -157.984), (3, 0, 59.788), (0, 1, 0.433),
    (2, 2, -6.439), (1, 1, -0.032), (0, 4, 0.092), (1, 4, -0.054),
)  # fmt: skip


N = TypeVar("N", float, "pl.Expr")


def _polynomial(terms: tuple[tuple[int, int, float], ...], one: N, other: N) -> N:
    total = one * 0.0
    for p, q, factor in terms:
        term = one * 0.0 + factor
        for value, power in ((one, p), (other, q)):
            for _ in range(power):
                term = term * value
        total = total + term
    return total


def degrees(x: N, y: N) -> tuple[N, N]:
    """Latitude and longitude (WGS 84) of Rijksdriehoek metres; of numbers or of columns."""
    east, north = (x - _X_0) * 1e-5, (y - _Y_0) * 1e-5
    latitude = _polynomial(_TO_LATITUDE, east, north) / 3600 + _LATITUDE_0
    return latitude, _polynomial(_TO_LONGITUDE, east, north) / 3600 + _LONGITUDE_0


def metres(latitude: N, longitude: N) -> tuple[N, N]:
    """Rijksdriehoek metres of latitude and longitude (WGS 84); of numbers or of columns."""
    up, right = (latitude - _LATITUDE_0) * 0.36, (longitude - _LONGITUDE_0) * 0.36
    return _polynomial(_TO_X, up, right) + _X_0, _polynomial(_TO_Y, up, right) + _Y_0


def square_500m(latitude: str, longitude: str) -> str:
    """The CBS square of 500 m that a place lies in, as an SQL expression: `E0785N4540`, its south-west corner in hm.

    Args:
        latitude: SQL of degrees; null gives null.
        longitude: likewise.
    """
    up, right = f"(({latitude})::DOUBLE - {_LATITUDE_0}) * 0.36", f"(({longitude})::DOUBLE - {_LONGITUDE_0}) * 0.36"

    def hectometres(terms: tuple[tuple[int, int, float], ...], origin: int) -> str:
        total = " + ".join(f"({factor} * power({up}, {p}) * power({right}, {q}))" for p, q, factor in terms)
        return f"lpad((floor(({total} + {origin}) / 500) * 5)::INTEGER::VARCHAR, 4, '0')"

    return f"'E' || {hectometres(_TO_X, _X_0)} || 'N' || {hectometres(_TO_Y, _Y_0)}"


def repair(rows: pl.DataFrame, declared: Coordinates) -> tuple[pl.DataFrame, dict[str, int], pl.Series]:
    """Mend a pair of coordinates as declared; a pair that is in order or past mending is left alone.

    Args:
        rows: text, decimals with a point.
        declared: which columns, and which repairs.

    Returns:
        the rows, how often each repair was made, and which rows it touched.
    """
    import polars as pl

    counts: dict[str, int] = {}
    touched = pl.Series("touched", [False]).new_from_index(0, len(rows))
    for name in declared.repairs:
        one, other = pl.col(declared.latitude), pl.col(declared.longitude)
        a, b = one.cast(pl.Float64, strict=False), other.cast(pl.Float64, strict=False)
        if name == "coordinaten_verwisseld":
            in_degrees = a.is_between(*LONGITUDES) & b.is_between(*LATITUDES)
            in_metres = a.is_between(*RD_X) & b.is_between(RD_X[1], RD_Y[1])
            crossed, new = in_degrees | in_metres, (other, one)
        else:
            crossed = a.is_between(*RD_Y) & b.is_between(*RD_X)
            # seven decimals are a centimetre
            new = tuple(d.round(7).cast(pl.String) for d in degrees(b, a))  # type: ignore[assignment]
        marked = rows.select(crossed.fill_null(False)).to_series()
        count = int(marked.sum())
        if not count:
            continue
        counts[name] = count
        touched |= marked
        rows = rows.with_columns(
            pl.when(marked).then(new[0]).otherwise(one).alias(declared.latitude),
            pl.when(marked).then(new[1]).otherwise(other).alias(declared.longitude),
        )
    return rows, counts, touched
