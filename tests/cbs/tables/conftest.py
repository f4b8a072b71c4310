"""Landed tables to build from: small ones made by hand, and the real recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.cbs.client import CbsClient, Endpoints, Options
from assets.cbs.model import Code, Dimension, Landed, Location, Measure, TableMeta
from datafabriek.sample.server import ServedTable, StandIn, TableStore

Land = Callable[[TableMeta, pa.Table], Landed]


def measure(identifier: str, title: str, *path: str, unit: str = "aantal", kind: str = "Long") -> Measure:
    return Measure(identifier, 0, title, "", None, path, kind, unit, 0)


def dimension(identifier: str, kind: str, codes: dict[str, str], **more: Any) -> Dimension:
    made = tuple(Code(code, i, title, "", None, **more) for i, (code, title) in enumerate(codes.items(), 1))
    return Dimension(identifier, identifier, kind, codes=made)


@pytest.fixture(scope="session")
def make_measure() -> Callable[..., Measure]:
    """A measure: identifier, title, titles of its groups."""
    return measure


@pytest.fixture(scope="session")
def make_dimension() -> Callable[..., Dimension]:
    """A dimension: identifier, kind, code → title."""
    return dimension


@pytest.fixture(scope="session")
def make_meta() -> Callable[..., TableMeta]:
    """Metadata of a table: id, title, measures, dimensions."""

    def make(
        table_id: str,
        title: str,
        measures: Iterable[Measure],
        dimensions: Iterable[Dimension] = (),
        protocol: Any = "v4",
        source: str = "CBS.",
    ) -> TableMeta:
        properties = {"Title": title, "Source": source, "Modified": "2026-01-01"}
        return TableMeta(Location(table_id, protocol, ""), properties, tuple(dimensions), tuple(measures))

    return make


@pytest.fixture(scope="session")
def land(tmp_path_factory: pytest.TempPathFactory) -> Land:
    """Put observations on disk as the client leaves them."""

    def write(meta: TableMeta, observations: pa.Table) -> Landed:
        folder = tmp_path_factory.mktemp(meta.id)
        pq.write_table(observations, folder / "part-0.parquet")
        return Landed(meta, folder, None, observations.num_rows, True, "2026-01-01", (folder / "part-0.parquet",))

    return write


@pytest.fixture(scope="session")
def land_values(land: Land) -> Callable[..., Landed]:
    """Land a table from {(measure, code of each dimension …): value}; a text lands as StringValue, None as missing."""

    def write(meta: TableMeta, values: dict[tuple[str, ...], float | str | None]) -> Landed:
        rows = list(values.items())
        table = pa.table(
            {
                "Id": pa.array(range(len(rows)), pa.int64()),
                "Measure": [key[0] for key, _ in rows],
                "ValueAttribute": ["Confidential" if value is None else "None" for _, value in rows],
                "Value": pa.array([v if isinstance(v, int | float) else None for _, v in rows], pa.float64()),
                "StringValue": pa.array([v if isinstance(v, str) else None for _, v in rows], pa.string()),
                **{d.identifier: [key[i] for key, _ in rows] for i, d in enumerate(meta.dimensions, 1)},
            }
        )
        return land(meta, table)

    return write


@pytest.fixture
def warehouse() -> Iterable[duckdb.DuckDBPyConnection]:
    """An empty warehouse in memory."""
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def land_recorded(
    recorded: dict[str, tuple[ServedTable, str | None]],
    recorded_store: TableStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Landed]]:
    """Land a table recorded in ../shared through the client, over the protocol it was recorded in."""
    root = tmp_path_factory.mktemp("landing")
    with StandIn(recorded_store) as server:
        endpoints = Endpoints(server.odata4, server.odata3, server.derden)
        with CbsClient(endpoints, Options(timeout_s=60, retries=1)) as client:
            yield lambda table_id: client.land(table_id, root, filter=recorded[table_id][1])


@pytest.fixture(scope="session")
def kwb_2020(land_recorded: Callable[[str], Landed]) -> Landed:
    """The real Kerncijfers wijken en buurten 2020, the whole country, over v3."""
    return land_recorded("84799NED")


@pytest.fixture(scope="session")
def population_recorded(land_recorded: Callable[[str], Landed]) -> Landed:
    """The recorded slice of 03759ned (population by region)."""
    return land_recorded("03759ned")


@pytest.fixture(scope="session")
def gebieden_2022(land_recorded: Callable[[str], Landed]) -> Landed:
    """The real Gebieden in Nederland 2022, over v3."""
    return land_recorded("85067NED")
