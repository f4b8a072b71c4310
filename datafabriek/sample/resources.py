"""The Dagster resource through which the assets of the sample factory reach the stand-in instead of CBS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from assets.cbs.client import CbsClient, options_of
from assets.cbs.resources import CbsSource
from datafabriek.config import ODATA4_LIVE, Settings
from datafabriek.sample.cbs import serve


class SampleCbsSource(CbsSource):
    """The stand-in in CBS's place; an address that factory.yaml or the environment names wins."""

    @contextmanager
    def client(self, settings: Settings) -> Iterator[CbsClient]:
        """An open client on the stand-in, or on the addresses that were set."""
        if settings.cbs.odata4_url != ODATA4_LIVE:
            with super().client(settings) as client:
                yield client
            return
        with serve(settings) as endpoints, CbsClient(endpoints, options_of(settings.cbs)) as client:
            yield client
