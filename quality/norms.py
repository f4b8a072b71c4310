"""The norms of a release: what each audience may see, and when a table is good enough to be shown.

Belongs here: reading and checking the organisation's `normen.yaml`. Does not belong here: applying a norm
(quality.protection, assets.release.gate), and any norm itself: those stand in the policy folder, never in code.
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from datafabriek.errors import FactoryError
from datafabriek.mistakes import explain

NORMS_FILE = "normen.yaml"

Audience = Literal["intern", "open"]
AUDIENCES: tuple[Audience, ...] = ("intern", "open")
"""From the one who knows most to the one who knows least: a reader of `intern` also reads `open`."""

Level = Literal["BU", "WK", "GM"]
LEVELS: tuple[Level, ...] = ("BU", "WK", "GM")

PRIVACY_NORMS = ("minimum", "afronding", "openbare_noemers", "openbare_bron", "alleen_beschreven_kolommen")
QUALITY_NORMS = ("marges_tellen_op", "onbekende_buurt_pct", "regios_compleet")
"""Norms that `accept` can waive for a while; a privacy norm cannot be waived."""


class NormsError(FactoryError):
    """Norms that are missing or cannot be used: the message says what to fill in, and where."""

    exit_code = 2


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AudienceNorms(_Part):
    """What one audience may see of a count of persons or establishments.

    Attributes:
        minimum: the smallest count above zero that is shown.
        afronding: the base that shown counts are rounded to; 1 leaves them as they are.
        goedkeuring: whether a table goes to this audience only under an approval of its spec (`release propose`).
    """

    minimum: Annotated[int, Field(ge=2, le=10_000)]
    afronding: Annotated[int, Field(ge=1, le=10_000)]
    goedkeuring: Literal["verplicht", "niet"] = "verplicht"

    @model_validator(mode="after")
    def _never_to_zero(self) -> AudienceNorms:
        if self.afronding > 2 * self.minimum:
            raise ValueError(
                f"afronding {self.afronding} rounds counts from {self.minimum} on to 0, which would read as "
                f"none: expected at most {2 * self.minimum}, or a higher minimum"
            )
        return self


class QualityNorms(_Part):
    """When a table is good enough; each can be waived for a while with `datafabriek accept`.

    Attributes:
        onbekende_buurt_pct: largest share of a count whose buurt is unknown, per municipality and period.
        regios_compleet: every region of a level that CBS knows for that year has a row.
        marges_tellen_op: a municipality is the sum of its wijken, a wijk of its buurten.
    """

    onbekende_buurt_pct: Annotated[float, Field(ge=0, le=100)] = 100.0
    regios_compleet: bool = True
    marges_tellen_op: bool = True


class Norms(_Part):
    """All of normen.yaml.

    Attributes:
        versie: the version's name, told in every release.
        vastgesteld_op: the day on which the organisation decided them.
        vastgesteld_door: who decided.
        bron: what they rest on.
        doelgroepen: norms per audience; an audience that is absent gets nothing.
        laagste_niveau: per table the lowest level on which it is shown, where that is higher than its spec says.
        maximum_geschat_pct: a total of which more than this share stands for hidden parts is itself hidden.
    """

    versie: Annotated[str, Field(min_length=1)]
    vastgesteld_op: date
    vastgesteld_door: Annotated[str, Field(min_length=1)]
    bron: str = ""
    doelgroepen: dict[Audience, AudienceNorms] = Field(min_length=1)
    kwaliteit: QualityNorms = QualityNorms()
    laagste_niveau: dict[str, Level] = {}
    maximum_geschat_pct: Annotated[float, Field(ge=0, le=100)] = 25.0

    @field_validator("versie", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _open_knows_least(self) -> Norms:
        """Each audience must see no more than the one that knows more, on a grid that nests in theirs."""
        chain = self.chain()
        for (near, inner), (far, outer) in pairwise(chain):
            # an even multiple rounds every second value of the inner grid up once more: totals would drift upwards
            if (
                outer.minimum < inner.minimum
                or outer.afronding % inner.afronding
                or (outer.afronding // inner.afronding % 2 == 0)
            ):
                raise ValueError(
                    f"{far} must be at least as strict as {near}: expected a minimum of at least {inner.minimum} "
                    f"and an afronding of {inner.afronding}, or an odd multiple of it"
                )
        return self

    def chain(self) -> list[tuple[Audience, AudienceNorms]]:
        """The audiences that have norms, from the one who knows most to the one who knows least."""
        return [(audience, self.doelgroepen[audience]) for audience in AUDIENCES if audience in self.doelgroepen]

    def steps(self, audience: Audience) -> tuple[AudienceNorms, ...]:
        """Norms to apply in turn for an audience: what it sees is made from what the one before it sees.

        Raises:
            NormsError: the audience has no norms.
        """
        chain = self.chain()
        names = [name for name, _ in chain]
        if audience not in names:
            raise NormsError(
                f"{NORMS_FILE} sets no norms for {audience}, so nothing is released to it: fill in "
                f"`doelgroepen: {{{audience}: {{minimum: …, afronding: …}}}}`"
            )
        return tuple(norms for _, norms in chain[: names.index(audience) + 1])


def load_norms(folder: Path | None) -> Norms:
    """Read the organisation's norms.

    Args:
        folder: the policy folder; None where the factory has none.

    Raises:
        NormsError: no folder, no file, or a key or value that is wrong; the message says what to fill in.
    """
    if folder is None or not (folder / NORMS_FILE).is_file():
        where = f"{folder or 'the policy folder'}/{NORMS_FILE}"
        raise NormsError(
            f"no norms are set, so nothing is released: make {where} with `versie`, `vastgesteld_op`, "
            "`vastgesteld_door` and `doelgroepen: {intern: {minimum: …, afronding: …}}`"
        )
    path = folder / NORMS_FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NormsError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise NormsError(f"{path}: expected keys such as `versie:` and `doelgroepen:`")
    try:
        return Norms(**document)
    except ValidationError as error:
        raise NormsError(explain(path, error, Norms)) from None
