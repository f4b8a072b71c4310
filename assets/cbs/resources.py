"""The Dagster resource through which assets reach CBS; the sample factory puts its stand-in in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from assets.cbs.client import CbsClient, Endpoints, options_of
from datafabriek.config import Settings


class CbsSource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """CBS at the addresses of factory.yaml."""

    @contextmanager
    def client(self, settings: Settings) -> Iterator[CbsClient]:
        """An open client, closed at the end of the block."""
        with CbsClient(Endpoints.of(settings.cbs), options_of(settings.cbs)) as client:
            yield client
