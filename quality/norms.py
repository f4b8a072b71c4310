"""The norms of a release: what each audience may see, and when a table is good enough to be shown.

Belongs here: reading and checking the organisation's `normen.yaml`, and saying them to the disclosure engine. Does not
belong here: applying a norm (quality.disclosure, assets.release.gate), and any norm itself: those stand in the policy
folder, never in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from datafabriek.errors import FactoryError
from datafabriek.mistakes import explain, load

if TYPE_CHECKING:
    from quality.disclosure.spec import Policy

NORMS_FILE = "normen.yaml"

AUDIENCE_FORM = r"^(intern|open|partner_[a-z0-9_]{1,40})$"
Audience = Annotated[str, Field(pattern=AUDIENCE_FORM)]
"""`intern`: the organisation itself; `partner_<name>`: a third party under an agreement; `open`: everyone."""

AUDIENCES: tuple[Audience, ...] = ("intern", "open")
"""What every factory has, from the one who knows most to the one who knows least; its partners stand in between."""

PARTNER = "partner_"

Level = Literal["BU", "WK", "P6", "PC", "GM"]
LEVELS: tuple[Level, ...] = ("BU", "WK", "P6", "PC", "GM")

PRIVACY_NORMS = (
    "minimum",
    "afronding",
    "bescherming",
    "openbare_noemers",
    "openbare_bron",
    "alleen_beschreven_kolommen",
    "eerdere_leveringen",
    "leveranciers",
    "bedragen",
    "goedkeuring",
)
QUALITY_NORMS = ("marges_tellen_op", "onbekende_buurt_pct", "regios_compleet")
"""Norms that `accept` can waive for a while; a privacy norm cannot be waived."""


class NormsError(FactoryError):
    """Norms that are missing or cannot be used: the message says what to fill in, and where."""

    exit_code = 2


def audiences(names: Iterable[str]) -> tuple[Audience, ...]:
    """The audiences that every factory has and the partners among `names`: `intern` first, `open` last."""
    return ("intern", *sorted({name for name in names if is_partner(name)}), "open")


def is_partner(name: str) -> bool:
    """Whether this is the name of a partner as an audience."""
    return name.startswith(PARTNER) and re.fullmatch(AUDIENCE_FORM, name) is not None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _elsewhere(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and set(value) <= {"env", "file"}:
        return value
    # whoever knows it can undo what it protects, and norms are signed, kept and shown
    raise ValueError("a parameter of concentration stands outside the norms: expected {env: NAME} or {file: PATH}")


Elsewhere = Annotated[dict[str, str], BeforeValidator(_elsewhere)]
"""Where a confidential number stands (Hundepool et al., Handbook on SDC, 4.2)."""


class AudienceNorms(_Part):
    """What one audience may see of a count of persons or establishments.

    Attributes:
        minimum: the smallest count above zero that is shown.
        afronding: the base that shown counts are rounded to; 1 leaves them as they are.
        afrondingsmethode: `gewoon`: each count by itself, halves up; `sluitend`: so that rounded tables add up.
        bescherming: how many whole numbers apart the least and the most must lie that anyone can work out of a hidden
            count, from everything that was ever released and what CBS publishes.
        groep_pct: a category that holds this share of its total or more tells of everyone in it, so it is hidden, with
            the (nearly) empty ones beside it; None does not look at it.
        goedkeuring: whether a table goes to this audience only under an approval of its spec (`release propose`).
        naam: of a partner: who it is.
        overeenkomst: of a partner: the agreement under which it gets figures.
        geldig_tot: of a partner: the last day of that agreement; after it the partner gets nothing, and what it has is
            taken back.
        tabellen: of a partner: the tables that the agreement names; it gets no other.
    """

    minimum: Annotated[int, Field(ge=3, le=10_000)]
    afronding: Annotated[int, Field(ge=1, le=10_000)]
    afrondingsmethode: Literal["gewoon", "sluitend"] = "gewoon"
    bescherming: Annotated[int, Field(ge=1, le=10_000)]
    groep_pct: Annotated[float, Field(gt=50, le=100)] | None = None
    goedkeuring: Literal["verplicht", "niet"] = "verplicht"
    naam: str = ""
    overeenkomst: str = ""
    geldig_tot: date | None = None
    tabellen: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _never_to_zero(self) -> AudienceNorms:
        most = self.minimum if self.afrondingsmethode == "sluitend" else 2 * self.minimum
        if self.afronding > most:
            raise ValueError(
                f"afronding {self.afronding} rounds counts from {self.minimum} on to 0, which would read as "
                f"none: expected at most {most}, or a higher minimum"
            )
        if self.bescherming > self.minimum - 2:
            raise ValueError(
                f"bescherming {self.bescherming}: who knows that 1 to {self.minimum - 1} are hidden knows a hidden "
                f"count to {self.minimum - 2} apart: expected at most that, or a higher minimum"
            )
        return self

    def interval(self, value: int, least: int) -> tuple[int, int]:
        """The counts that may stand behind a shown multiple, when nothing from 1 to under `least` is shown."""
        if value == 0:
            return 0, 0
        if self.afrondingsmethode == "sluitend":
            low, high = value - self.afronding + 1, value + self.afronding - 1
        else:
            low, high = value - self.afronding // 2, value + (self.afronding - 1) // 2
        return max(low, least), high


class Dominance(_Part):
    """An amount is unsafe when its `n` largest contributors hold more than `k` percent of it."""

    n: Literal[1, 2]
    k: Elsewhere


class AmountNorms(_Part):
    """When an amount may be shown, besides that the count of who contribute to it must be.

    Attributes:
        p_procent: nobody who contributes may be able to work out what the largest other one has to within this
            percentage (the p% rule).
        dominantie: how much the largest may hold.
        bescherming: how many units at least lie between an amount that is hidden by the norm and either end of what
            can be worked out of it, as far as it is above zero.
    """

    p_procent: Elsewhere
    dominantie: tuple[Dominance, ...] = ()
    bescherming: Annotated[int, Field(ge=1)]


class Attackers(_Part):
    """Whom an audience's figures must withstand, besides each of its readers.

    Attributes:
        vermoedt_klein: a reader takes every hidden count for one under the minimum, wherever that fits what is shown.
        partners: partners show each other what they got, also in earlier releases.
        leveranciers: whose suppliers' own records count, by the names that contracts give them (`leverancier`). Who
            supplied a register knows every count that comes from it alone, exactly, also where it is rounded or hidden.
    """

    vermoedt_klein: bool = True
    partners: bool = True
    leveranciers: Literal["allen", "geen"] | tuple[str, ...] = "allen"


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
        doelgroepen: norms per audience; an audience that is absent gets nothing. Partners from the one who may see
            most to the one who may see least.
        aanvaller: who is taken to know what.
        bedragen: when an amount may be shown; None: none is.
        laagste_niveau: per table the lowest level on which it is shown, where that is higher than its spec says.
        herziening_maximaal: how much a count is revised at most from one release to another; `geen`: nothing is known
            of that, so that older figures of a period tell nothing of newer ones.
        kent_eigen_cel: whether someone who is alone in a cell may use that to work out others.
        tijdslimiet_s: seconds for one period of one municipality; past them that table is not released.
    """

    versie: Annotated[str, Field(min_length=1)]
    vastgesteld_op: date
    vastgesteld_door: Annotated[str, Field(min_length=1)]
    bron: str = ""
    doelgroepen: dict[Audience, AudienceNorms] = Field(min_length=1)
    aanvaller: Attackers = Attackers()
    bedragen: AmountNorms | None = None
    kwaliteit: QualityNorms = QualityNorms()
    laagste_niveau: dict[str, Level] = {}
    herziening_maximaal: Annotated[int, Field(ge=0)] | Literal["geen"]
    kent_eigen_cel: bool = False
    tijdslimiet_s: Annotated[float, Field(ge=0)] = 120.0

    @property
    def attackers(self) -> str:
        """Whom figures must withstand, besides their readers, as one line that compares."""
        return f"{self.aanvaller.model_dump_json()} kent_eigen_cel={self.kent_eigen_cel}"

    @field_validator("versie", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _partners_have_agreements(self) -> Norms:
        for who, norms in self.doelgroepen.items():
            told = {key: getattr(norms, key) for key in ("naam", "overeenkomst", "geldig_tot", "tabellen")}
            if is_partner(who) and (lacking := [key for key, value in told.items() if not value]):
                raise ValueError(
                    f"{who} lacks {', '.join(lacking)}: expected who the partner is (naam), under which agreement it "
                    "gets figures (overeenkomst), the last day of that (geldig_tot, as 2027-12-31; after it nothing "
                    "goes to the partner and what it has is taken back), and the tables that it names (tabellen)"
                )
            if not is_partner(who) and (odd := [key for key, value in told.items() if value]):
                raise ValueError(f"{who} is no partner, so {', '.join(odd)} say nothing of it: leave them out")
        return self

    @model_validator(mode="after")
    def _open_knows_least(self) -> Norms:
        """Each audience must see no more than the one that knows more, on a grid that nests in theirs."""
        chain = self.chain()
        for (near, inner), (far, outer) in pairwise(chain):
            # an even multiple rounds every second value of the inner grid up once more: totals would drift upwards
            if (
                outer.minimum < inner.minimum
                or outer.afronding % inner.afronding
                or (inner.afronding > 1 and outer.afronding // inner.afronding % 2 == 0)
            ):
                raise ValueError(
                    f"{far} must be at least as strict as {near}: expected a minimum of at least {inner.minimum} "
                    f"and an afronding of {inner.afronding}, or an odd multiple of it"
                )
            # rounded once more, a figure would lie further from the truth than its own grid says
            if "sluitend" in (inner.afrondingsmethode, outer.afrondingsmethode) and inner.afronding > 1:
                raise ValueError(
                    f"afrondingsmethode sluitend: what {far} sees is made from what {near} sees, which is rounded to "
                    f"{inner.afronding} already, and rounding twice gives other sums than rounding once: expected "
                    f"gewoon for both, or afronding 1 for {near}"
                )
        return self

    def chain(self) -> list[tuple[Audience, AudienceNorms]]:
        """The audiences that have norms, from the one who knows most to the one who knows least."""
        place = {"intern": 0, "open": 2}
        return sorted(self.doelgroepen.items(), key=lambda item: place.get(item[0], 1))

    def entitled(self, audience: Audience, table: str) -> bool:
        """Whether a table may go to an audience at all: to a partner only what its agreement names."""
        own = self.doelgroepen.get(audience)
        return not is_partner(audience) or (own is not None and table in own.tabellen)

    def over(self, audience: Audience, day: date) -> str | None:
        """Why there is no agreement with a partner on a day, in Dutch; None where there is, and for no partner."""
        if not is_partner(audience):
            return None
        own = self.doelgroepen.get(audience)
        if own is None or own.geldig_tot is None:
            return f"{NORMS_FILE} noemt {audience} niet (meer)"
        return f"{own.overeenkomst} gold tot en met {own.geldig_tot}" if own.geldig_tot < day else None

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
                f"`doelgroepen: {{{audience}: {{minimum: …, afronding: …, bescherming: …}}}}`"
            )
        return tuple(norms for _, norms in chain[: names.index(audience) + 1])


@dataclass(frozen=True)
class Chain:
    """The norms in force for a period: every audience's, from the one who knows most to the one who knows least.

    Each audience is shown what follows from the view of the one before it, so that any of them together know no more
    than the first among them.

    Attributes:
        norms: as they were when the period was first shown.
        added: audiences that were not foreseen then.
    """

    norms: tuple[tuple[Audience, AudienceNorms], ...]
    added: tuple[Audience, ...] = ()

    @classmethod
    def of(cls, norms: Norms) -> Chain:
        """Those of the policy as it is now."""
        return cls(tuple(norms.chain()))

    @property
    def label(self) -> str:
        """A name that is equal for equal norms, as the ledger keeps it."""
        return " ".join(
            f"{who}:{n.minimum}/{n.afronding}/{n.afrondingsmethode}/{n.bescherming}/"
            f"{'-' if n.groep_pct is None else f'{n.groep_pct:g}'}"
            for who, n in self.norms
        )

    @classmethod
    def parse(cls, label: str) -> Chain:
        """The chain of a label.

        Raises:
            NormsError: no such label, as of a release that was made before norms said what protection is.
        """
        found: list[tuple[Audience, AudienceNorms]] = []
        try:
            for item in label.split():
                who, told = item.split(":")
                least, base, method, width, group = told.split("/")
                part = {"minimum": least, "afronding": base, "afrondingsmethode": method, "bescherming": width}
                share = {} if group == "-" else {"groep_pct": group}
                found.append((who, AudienceNorms.model_validate(part | share)))
        except ValueError:
            found = []
        if not found or any(re.fullmatch(AUDIENCE_FORM, who) is None for who, _ in found):
            raise NormsError(f"the norms {label!r} of an earlier release cannot be read")
        return cls(tuple(found))

    def joined(self, others: Iterable[Audience]) -> Chain:
        """The same with audiences that were not foreseen: they see what the strictest one sees."""
        known = {who for who, _ in self.norms}
        return replace(self, added=tuple(who for who in dict.fromkeys(others) if who not in known))

    @property
    def order(self) -> tuple[tuple[Audience, AudienceNorms], ...]:
        """All audiences with their norms; those that were not foreseen stand at the end, and `open` after them."""
        strictest = self.norms[-1][1]
        found = [*self.norms, *((who, strictest) for who in self.added)]
        return tuple(sorted(found, key=lambda item: item[0] == "open"))

    def steps(self, audience: Audience) -> tuple[tuple[Audience, AudienceNorms], ...]:
        """Norms to apply in turn for an audience; one that was not foreseen sees what the strictest one sees."""
        order = self.order if audience in (who for who, _ in self.order) else self.joined([audience]).order
        return order[: [who for who, _ in order].index(audience) + 1]

    def known_to(self, reader: Audience, *, partners: bool) -> tuple[Audience, ...]:
        """Whose releases a reader knows: its own, those to who may see less, and of partners where they share them."""
        names = [who for who, _ in self.steps(reader)[:-1]]
        after = [who for who, _ in self.order if who not in names and who != reader]
        apart = is_partner(reader) and not partners
        return (reader, *(who for who in after if not (apart and is_partner(who))))

    def least_shown(self, audience: Audience) -> list[int]:
        """Per step the smallest count above zero that can be shown: the least that surely reaches the minimum.

        What an audience sees is made from what the one before it sees, so a rounded value counts for the least that
        may stand behind it: after `minimum: 5, afronding: 5` a minimum of 10 shows from 13 on.
        """
        found: list[int] = []
        before: AudienceNorms | None = None
        for _, norms in self.steps(audience):
            least = norms.minimum
            if before is not None:
                value = before.afronding
                while before.interval(value, found[-1])[0] < norms.minimum:
                    value += before.afronding
                least = before.interval(value, found[-1])[0]
            found.append(least)
            before = norms
        return found


def policy(
    norms: AudienceNorms,
    least: int,
    groups: Sequence[str] = (),
    *,
    knows_own: bool = False,
    suspects: bool = False,
) -> Policy:
    """Norms as the disclosure engine takes them.

    Args:
        norms: of one audience.
        least: the smallest count that it can be shown (`Chain.least_shown`).
        groups: classifications in which no category may hold (nearly) everyone.
        knows_own: whether someone alone in a cell uses that.
        suspects: whether a reader takes every hidden count for one under the minimum.
    """
    from quality.disclosure.spec import Policy

    share = norms.groep_pct
    rules: list[dict[str, Any]] = [{"rule": "frequency", "minimum": least}]
    if share is not None:
        rules += [{"rule": "group_disclosure", "dimension": name, "share": share} for name in groups]
    method = "controlled" if norms.afrondingsmethode == "sluitend" else "conventional"
    return Policy.model_validate(
        {
            "name": NORMS_FILE,
            "primary": rules,
            "protection": {"width": norms.bescherming},
            "attacker": {"contributors": knows_own, "suspects_primary": suspects},
            "rounding": None if norms.afronding == 1 else {"base": norms.afronding, "method": method},
            "cost": "value",
        }
    )


def amount_policy(norms: AmountNorms, least: int) -> Policy:
    """Norms on amounts as the disclosure engine takes them, with the numbers that stand elsewhere.

    Args:
        norms: of the organisation.
        least: the smallest count of contributors that is shown.

    Raises:
        NormsError: a number cannot be read, or is none.
    """
    from quality.disclosure.spec import Policy

    rules: list[dict[str, Any]] = [
        {"rule": "frequency", "minimum": least},
        {"rule": "p_percent", "p": norms.p_procent},
        *({"rule": "dominance", "n": one.n, "k": one.k} for one in norms.dominantie),
    ]
    try:
        return Policy.model_validate(
            {
                "name": NORMS_FILE,
                "primary": rules,
                "protection": {"columns": True},
                "attacker": {"contributors": True},
                "cost": "value",
            }
        )
    except ValidationError as error:
        told = "; ".join(
            dict.fromkeys(str(one["msg"]) for one in error.errors(include_input=False, include_context=False))
        )
        raise NormsError(f"{NORMS_FILE}: a number that bedragen points to cannot be used: {told}") from None


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
            "`vastgesteld_door`, `herziening_maximaal` and `doelgroepen: {intern: {minimum: …, afronding: …, "
            "bescherming: …}}`"
        )
    path = folder / NORMS_FILE
    try:
        document = load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NormsError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise NormsError(f"{path}: expected keys such as `versie:` and `doelgroepen:`")
    try:
        return Norms(**document)
    except ValidationError as error:
        raise NormsError(explain(path, error, Norms)) from None
