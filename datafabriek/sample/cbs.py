"""CBS for the sample factory: the stand-in with the sample's tables.

Belongs here: what is served, and to whom. Does not belong here: figures (cbs_real, cbs_synthetic), the protocol
(server) and the Dagster resource (resources), which would cost the command line the import of Dagster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from assets.cbs.client import Endpoints
from datafabriek.config import Settings
from datafabriek.sample import cbs_real, cbs_synthetic
from datafabriek.sample.server import StandIn, TableStore


@lru_cache(maxsize=4)
def store(years: tuple[int, ...]) -> TableStore:
    """The sample's tables, made once per process: CBS's own, and synthetic key figures of the other years."""
    tables = TableStore()
    for table in (*cbs_real.tables(), *cbs_synthetic.tables(years)):
        tables.add(table)
    return tables


@contextmanager
def serve(settings: Settings) -> Iterator[Endpoints]:
    """The stand-in on 127.0.0.1 while the block lasts; yields its three addresses."""
    with StandIn(store(tuple(sorted(settings.cbs.kwb_years)))) as server:
        yield Endpoints(server.odata4, server.odata3, server.derden)
