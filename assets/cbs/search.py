"""Finding a table: by words in the catalogues, and by the region that it has figures on."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from assets.cbs.client import CbsClient
from assets.cbs.errors import CbsError
from assets.cbs.model import CatalogueEntry
from datafabriek.folders import private_folder

LOOKED_UP = 50
"""Tables of which the regions are looked up; each costs a few requests the first time."""


def matching(entries: Sequence[CatalogueEntry], words: str) -> list[CatalogueEntry]:
    """Tables with every word in id, title or summary, accents and case aside; those with it in the title first."""
    wanted = _plain(words).split()
    found = [
        (all(word in _plain(f"{entry.id} {entry.title}") for word in wanted), entry)
        for entry in entries
        if all(word in _plain(f"{entry.id} {entry.title} {entry.summary}") for word in wanted)
    ]
    newest = sorted(found, key=lambda pair: pair[1].modified, reverse=True)
    return [entry for _, entry in sorted(newest, key=lambda pair: not pair[0])]


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def covering(
    client: CbsClient,
    entries: Sequence[CatalogueEntry],
    region: str,
    cache: Path,
    told: Callable[[], None] = lambda: None,
) -> dict[str, bool | None]:
    """Whether tables have figures on a region; None where CBS did not say.

    Args:
        client: asks CBS for what the cache does not hold.
        entries: the tables; an answer holds until the table is modified.
        region: code as `GM1916`.
        cache: a JSON file, made where there is none.
        told: called after each table.
    """
    known = _read(cache)

    def key(entry: CatalogueEntry) -> str:
        return f"{entry.id} {region} {entry.modified}"

    def ask(entry: CatalogueEntry) -> bool | None:
        try:
            return known[key(entry)] if key(entry) in known else client.covers(entry.id, region)
        except CbsError:
            return None
        finally:
            told()

    with ThreadPoolExecutor(client.options.parallel) as pool:
        answers = dict(zip(entries, pool.map(ask, entries), strict=True))
    known |= {key(entry): answer for entry, answer in answers.items() if answer is not None}
    private_folder(cache.parent)
    writing = cache.with_suffix(".tmp")
    writing.write_bytes(orjson.dumps(known))
    writing.replace(cache)
    return {entry.id: answer for entry, answer in answers.items()}


def _read(cache: Path) -> dict[str, bool]:
    try:
        found = orjson.loads(cache.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
