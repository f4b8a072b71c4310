"""What the factory knows of a StatLine table: one model for OData v4 and v3.

Names of fields follow OData v4 (`MeasureCodes`, `Dimensions`, `<Dim>Codes`). A v3 table is told in the same
words: a topic is a measure, its key the measure's identifier; keys are trimmed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

Protocol = Literal["v4", "v3"]
Progress = Callable[[int, int], None]
"""Called with rows landed so far and rows expected, from any thread."""

WIDE = "rows-"
"""How the names of files with wide rows begin."""

GEO_KINDS = ("GeoDimension", "GeoDetail")
TIME_KIND = "TimeDimension"
SYNTHETIC_SOURCE = "Synthetisch"
"""A table whose `Source` starts so was made up by the sample factory and is marked per row."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a table is read.

    `url` is the table's own address on v4 (`…/odata/v1/CBS/<id>`) and the host's on v3. `note` tells why a
    fallback was taken; None where the first choice answered. `by_outage` is true when v4 might have the table too
    but did not answer.
    """

    table_id: str
    protocol: Protocol
    url: str
    note: str | None = None
    by_outage: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A heading in the tree of measures or codes; `parent` is None at the top."""

    id: str
    title: str
    parent: str | None = None
    description: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure (v3: topic). `path` holds the titles of its headings from the top down, without its own."""

    identifier: str
    index: int
    title: str
    description: str
    group_id: str | None
    path: tuple[str, ...]
    data_type: str
    unit: str
    decimals: int | None
    presentation: str | None = None
    default: str | None = None

    @property
    def title_path(self) -> str:
        """Headings and title joined by ` > `: what a measure is matched on across years where ids differ."""
        return " > ".join((*self.path, self.title))

    @property
    def is_text(self) -> bool:
        """Whether its values stand in StringValue."""
        return self.data_type.lower() == "string"


@dataclass(slots=True, unsafe_hash=True)  # nobody changes one; frozen, the 17,000 of one table take thrice as long
class Code:
    """One code of a dimension. `status` is told of periods only, `detail_region` of wijken and buurten only."""

    identifier: str
    index: int
    title: str
    description: str
    group_id: str | None
    status: str | None = None
    detail_region: str | None = None


@dataclass(frozen=True)
class Dimension:
    """A dimension with all its codes.

    `kind` is Dimension, TimeDimension, GeoDimension or GeoDetail (wijken en buurten). `width` is the length to
    which v3 pads the codes with spaces (0: not padded); a filter with another width finds nothing.
    """

    identifier: str
    title: str
    kind: str
    description: str = ""
    map_year: str | None = None
    codes: tuple[Code, ...] = ()
    groups: tuple[Group, ...] = ()
    width: int = 0

    @property
    def by_identifier(self) -> Mapping[str, Code]:
        """Codes by identifier."""
        return self._by_identifier

    @cached_property
    def _by_identifier(self) -> Mapping[str, Code]:  # the underscore keeps it out of the JSON
        return {code.identifier: code for code in self.codes}

    @property
    def is_time(self) -> bool:
        """Whether its codes are periods."""
        return self.kind == TIME_KIND

    @property
    def is_geo(self) -> bool:
        """Whether its codes are regions."""
        return self.kind in GEO_KINDS


@dataclass(frozen=True)
class TableMeta:
    """All metadata of one table; `properties` as CBS gave them (v4 Properties, v3 TableInfos)."""

    location: Location
    properties: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]
    measures: tuple[Measure, ...]
    measure_groups: tuple[Group, ...] = ()

    @property
    def id(self) -> str:
        """The table id, in the case that CBS writes it."""
        return self.location.table_id

    @property
    def title(self) -> str:
        """The table's title."""
        return str(self.properties.get("Title") or "").strip()

    @property
    def observation_count(self) -> int | None:
        """Observations in the whole table; None on v3, which does not tell."""
        count = self.properties.get("ObservationCount")
        return None if count is None else int(count)

    @property
    def observations_modified(self) -> str:
        """When the figures last changed, as CBS writes it (v3: when anything changed)."""
        found = self.properties.get("ObservationsModified") or self.properties.get("Modified")
        return str(found or "")

    @property
    def modified(self) -> str:
        """When anything last changed, metadata too."""
        return str(self.properties.get("Modified") or "")

    @property
    def source(self) -> str:
        """The source that CBS names."""
        return str(self.properties.get("Source") or "CBS")

    @property
    def is_synthetic(self) -> bool:
        """Whether the table was made up by the sample factory."""
        return self.source.startswith(SYNTHETIC_SOURCE)

    @property
    def geo(self) -> Dimension | None:
        """The first region dimension."""
        return next((d for d in self.dimensions if d.is_geo), None)

    @property
    def time(self) -> Dimension | None:
        """The first time dimension."""
        return next((d for d in self.dimensions if d.is_time), None)

    def dimension(self, identifier: str) -> Dimension:
        """The dimension of that name.

        Raises:
            KeyError: the table has no such dimension.
        """
        return next(d for d in self.dimensions if d.identifier == identifier)

    def to_json(self) -> bytes:
        """The whole as JSON, to be read by `from_json`."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, text: bytes) -> TableMeta:
        """What `to_json` wrote."""
        raw = orjson.loads(text)
        return cls(
            location=Location(**raw["location"]),
            properties=raw["properties"],
            dimensions=tuple(
                Dimension(
                    **{
                        **dimension,
                        "codes": tuple(Code(**code) for code in dimension["codes"]),
                        "groups": tuple(Group(**group) for group in dimension["groups"]),
                    }
                )
                for dimension in raw["dimensions"]
            ),
            measures=tuple(Measure(**{**m, "path": tuple(m["path"])}) for m in raw["measures"]),
            measure_groups=tuple(Group(**group) for group in raw["measure_groups"]),
        )


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One table as the catalogues list it; `catalog` is CBS, or the third party's name."""

    id: str
    title: str
    modified: str
    status: str
    summary: str = ""
    catalog: str = "CBS"
    protocol: Protocol = "v4"


@dataclass(frozen=True)
class Landed:
    """A table on disk, complete and checked.

    `rows` counts observations (long form). `changed` tells whether this call loaded anything. `parts` are Parquet
    files: of v4 with observations, of v3 with wide rows as they came (`is_wide`). `landing.observations` reads both
    alike.
    """

    meta: TableMeta
    folder: Path
    filter: str | None
    rows: int
    changed: bool
    landed_at: str
    parts: tuple[Path, ...] = field(default=())

    @property
    def is_wide(self) -> bool:
        """Whether a row of its files holds several observations."""
        return any(part.name.startswith(WIDE) for part in self.parts)

    def entity(self, name: str) -> Path:
        """Parquet file of `measures`, `dimensions`, `properties` or `codes_<Dimension>`."""
        return self.folder / f"{name}.parquet"
