"""Which measure of one year is which of another, and which of them the factory knows by a name of its own.

CBS renumbers the columns of a yearly table every year, rewords titles and moves topics between groups. What holds:
the identifier of a v4 measure, and for v3 tables (which have none) the title with the titles of its groups. Belongs
here: that matching, on metadata alone. No column number is ever used.
"""

from __future__ import annotations

import itertools
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from assets.cbs.errors import CbsError
from assets.cbs.model import Measure, TableMeta

log = logging.getLogger(__name__)

_REPEAT = re.compile(r"_\d+$")


class MeasureError(CbsError):
    """A CBS table whose measures are not what the factory expects: the message names table, measure and remedy."""


@lru_cache(maxsize=4096)
def slug(title: str) -> str:
    """A title in lower case letters, digits and underscores; `%` and `€` keep a word, accents go.

    >>> slug("Gem.\u00a0inkomen per inwoner, 40% laagste")
    'gem_inkomen_per_inwoner_40_pct_laagste'
    """
    text = unicodedata.normalize("NFKD", title.replace("%", " pct ").replace("€", " euro ")).lower()
    return re.sub(r"[^a-z0-9]+", "_", "".join(c for c in text if not unicodedata.combining(c))).strip("_")


def title_path(measure: Measure) -> str:
    """Group titles and title in one normalised text: `bevolking/leeftijdsgroepen/0_tot_15_jaar`."""
    return "/".join(filter(None, map(slug, (*measure.path, measure.title))))


def _names(measure: Measure, *, is_v3: bool) -> tuple[str, ...]:
    """By what a measure is found in another year, surest first.

    A v4 identifier that ends in `_1`, `_2` … is a repeat within its table; the number may shift from year to year,
    so such a measure is the same only if its titles are too.
    """
    path = title_path(measure)
    if is_v3:
        return (path,)
    base = _REPEAT.sub("", measure.identifier)
    return (f"#{base}",) if base == measure.identifier else (f"#{base}@{path}",)


def match_years(years: Mapping[int, TableMeta]) -> dict[tuple[str, str], str]:
    """One code per measure, the same in every year that has it.

    Args:
        years: the metadata of each year's table.

    Returns:
        (table id, identifier) → code: the newest v4 identifier of that measure, or its title path where no year
        gives it over v4. Two measures of one year never share a code.
    """
    codes: dict[tuple[str, str], str] = {}
    known: dict[str, str] = {}
    taken: set[str] = set()
    is_v3 = {year: meta.location.protocol == "v3" for year, meta in years.items()}
    # v4 years first, newest first: they name what the v3 years then find by title
    for year in sorted(years, key=lambda y: (is_v3[y], -y)):
        used: set[str] = set()
        for measure in years[year].measures:
            names, path = _names(measure, is_v3=is_v3[year]), title_path(measure)
            code = next((known[n] for n in names if n in known and known[n] not in used), None)
            if code is None:
                own = path if is_v3[year] else measure.identifier
                code = next(c for c in _candidates(own, path) if c not in taken)
            used.add(code)
            taken.add(code)
            codes[years[year].id, measure.identifier] = code
            for name in (*names, path):
                known.setdefault(name, code)
    return codes


def _candidates(own: str, path: str) -> Iterator[str]:
    yield own
    yield path
    for count in itertools.count(2):
        yield f"{path}~{count}"


@dataclass(frozen=True)
class Known:
    """A measure that the factory's models name: `key`, the titles CBS has given it, and where it stands.

    Attributes:
        key: the factory's own name, stable over years (`indicator_sleutel`).
        titles: normalised titles, any of which is this measure.
        unit: a word that the normalised unit holds ("" for any).
        within: a word that the normalised title path of its groups holds ("" for any).
        outside: a word that the normalised title path of its groups does not hold ("" for none).
    """

    key: str
    titles: tuple[str, ...]
    unit: str = ""
    within: str = ""
    outside: str = ""

    def fits(self, measure: Measure) -> bool:
        """Whether this measure is the one meant."""
        groups = "/".join(map(slug, measure.path))
        return (
            slug(measure.title) in self.titles
            and self.unit in slug(measure.unit)
            and self.within in groups
            and not (self.outside and self.outside in groups)
        )


def name_known(meta: TableMeta, known: Iterable[Known]) -> dict[tuple[str, str], str]:
    """The factory's own name for those measures of a table that it knows: (table id, identifier) → key.

    A name that two measures fit is given to neither, as neither can be trusted; the log says so.
    """
    named: dict[tuple[str, str], str] = {}
    for entry in known:
        found = [measure for measure in meta.measures if entry.fits(measure)]
        if len(found) == 1:
            named[meta.id, found[0].identifier] = entry.key
        elif found:
            paths = ", ".join(map(title_path, found))
            log.warning("CBS table %s: %d measures could be `%s`: %s", meta.id, len(found), entry.key, paths)
    return named


def require(meta: TableMeta, named: Mapping[tuple[str, str], str], keys: Iterable[str]) -> None:
    """See to it that a table holds what the models cannot do without.

    Raises:
        MeasureError: it does not, or holds it twice; the message names what was expected and what there is.
    """
    missing = sorted(set(keys) - set(named.values()))
    if missing:
        there = "; ".join(measure.title for measure in meta.measures[:12])
        raise MeasureError(
            f"CBS table {meta.id} ({meta.title}) has no measure, or more than one, for {', '.join(missing)}; its "
            f"measures begin with: {there}. CBS may have reworded a title: mend its entry (`Known`) in assets/cbs"
        )
