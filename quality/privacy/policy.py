"""For which purposes, on what ground and for how long personal data may be used: the organisation's own say.

Read from `doelen.yaml` in the policy folder. Nothing here has a default: what is unset refuses the intake, and the
message says what to fill in.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.mistakes import explain
from quality.contracts.model import Contract, Purpose

FILE = "doelen.yaml"

Filled = Annotated[str, Field(min_length=3)]


class PolicyError(FactoryError):
    """A use of personal data for which no policy was set: the message says what to fill in where."""

    exit_code = 2


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Kept(_Section):
    """How long something is kept, in whole months after the period it covers (or after it was received)."""

    bewaartermijn_maanden: Annotated[int, Field(ge=1)]
    vanaf: Literal["periode", "ontvangst"] = "periode"

    def until(self, period_end: date, received: date) -> date:
        """The last day on which it may be there."""
        start = period_end if self.vanaf == "periode" else received
        months = start.year * 12 + start.month - 1 + self.bewaartermijn_maanden
        year, month = divmod(months, 12)
        return date(year, month + 1, min(start.day, monthrange(year, month + 1)[1]))


class PurposePolicy(_Kept):
    """What the organisation settled on one purpose.

    Attributes:
        omschrijving: what the purpose is.
        grondslag: the lawful basis (AVG 6, and the law that gives the task).
        verwerkingsactiviteit: number in the register of processing activities (AVG 30).
        betrokkenen: whose data they are, in categories (AVG 30, 1c); None: the register says that it is lacking.
        leveringen: deliveries that may be used for it.
        sleutelversie: version of its pseudonym key; raised to rotate.
        bewaartermijn_maanden: how long rows may stay in its tables, counted from `vanaf`: the end of the period they
            cover, or the day they were received (`ontvangst`).
        k: smallest group over the quasi-identifiers under which a load stops; None only measures.
    """

    omschrijving: Filled
    grondslag: Filled
    verwerkingsactiviteit: Filled
    betrokkenen: Filled | None = None
    leveringen: tuple[str, ...] = Field(min_length=1)
    sleutelversie: Annotated[int, Field(ge=1)] = 1
    k: Annotated[int, Field(ge=2)] | None = None


class DeliveryPolicy(_Kept):
    """How long a delivery stays in the vault, and its original with it.

    Attributes:
        sleutel_leverancier: public age key of the supplier, to whom the list of refused rows is encrypted; None: no
            such list is made.
    """

    sleutel_leverancier: str | None = None


class PrivacyPolicy(_Section):
    """All of doelen.yaml.

    Attributes:
        verwerkingsverantwoordelijke: who is responsible, with how to be reached (AVG 30, 1a); None: the register says
            that it is lacking.
        functionaris_gegevensbescherming: the data protection officer, likewise.
        doorgifte: to which countries outside the EEA or international organisations personal data go, and under which
            safeguards (AVG 30, 1e); the factory itself passes nothing on.
    """

    versie: Annotated[str, Field(min_length=1)]
    voorbeeld: bool = False
    vastgesteld_op: date | None = None
    vastgesteld_door: str | None = None
    verwerkingsverantwoordelijke: Filled | None = None
    functionaris_gegevensbescherming: Filled | None = None
    doorgifte: Filled | None = None
    doelen: dict[str, PurposePolicy] = {}
    leveringen: dict[str, DeliveryPolicy] = {}

    @field_validator("versie", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value

    @field_validator("doelen", "leveringen", mode="before")
    @classmethod
    def _nothing_yet(cls, value: Any) -> Any:
        """Let `doelen:` with nothing under it stand for none, so that what is missing is told where it is asked."""
        return {} if value is None else value

    def purpose(self, purpose: str, delivery: str) -> PurposePolicy:
        """The policy under which a delivery may be used for a purpose.

        Raises:
            PolicyError: none was set, or not for this delivery.
        """
        found = self.doelen.get(purpose)
        if found is None:
            raise PolicyError(
                f"purpose `{purpose}` of delivery `{delivery}` has no lawful basis: enter it in {FILE} of the policy "
                f"folder under `doelen: {purpose}:` with grondslag, verwerkingsactiviteit, leveringen and "
                "bewaartermijn_maanden"
            )
        if delivery not in found.leveringen:
            raise PolicyError(
                f"purpose `{purpose}` may not use delivery `{delivery}`: add it to `doelen.{purpose}.leveringen` in "
                f"{FILE}, if that was settled"
            )
        return found

    def settled(self, contract: Contract, delivery: str) -> list[Purpose]:
        """The purposes of a contract for which the organisation settled that this delivery may be used."""
        return [
            purpose
            for name, purpose in contract.purposes.items()
            if name in self.doelen and delivery in self.doelen[name].leveringen
        ]

    def term(self, delivery: str) -> DeliveryPolicy:
        """How long a delivery stays in the vault.

        Raises:
            PolicyError: it is not settled.
        """
        if delivery not in self.leveringen:
            raise PolicyError(
                f"delivery `{delivery}` has no retention term: enter it in {FILE} of the policy folder under "
                f"`leveringen: {delivery}: {{bewaartermijn_maanden: …}}`"
            )
        return self.leveringen[delivery]

    def allowed(self, contract: Contract, delivery: str) -> list[Purpose]:
        """The purposes for which a delivery may be taken in, retention checked.

        Raises:
            PolicyError: a term is lacking, or a ground for any of its purposes.
        """
        self.term(delivery)
        found = self.settled(contract, delivery)
        if not found:
            for purpose in contract.purposes:
                self.purpose(purpose, delivery)  # tells what is lacking
        return found


def purposes(settings: Settings, contract: Contract, delivery: str) -> list[Purpose]:
    """The purposes for which this factory has tables of a delivery.

    All of its contract as long as the policy cannot be read: using one of them then tells what is wrong with it.
    """
    try:
        return load_policy(settings).settled(contract, delivery)
    except PolicyError:
        return list(contract.purposes.values())


def load_policy(settings: Settings) -> PrivacyPolicy:
    """The privacy policy of a factory.

    Raises:
        PolicyError: there is no policy folder or file, or it is not in order; the message names key and remedy.
    """
    return _read(policy_file(settings))


def policy_file(settings: Settings) -> Path:
    """Where the privacy policy stands.

    Raises:
        PolicyError: there is no policy folder.
    """
    if settings.policy_folder is None:
        raise PolicyError(
            f"this factory has no policy folder: make {settings.source.parent / 'policy'} with {FILE}, in which lawful "
            "grounds, purposes and retention stand; the sample factory's is an example"
        )
    return settings.policy_folder / FILE


def _read(path: Path) -> PrivacyPolicy:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C: a run reads it for every delivery and purpose
        document: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader
        return PrivacyPolicy.model_validate(document)
    except OSError as error:
        raise PolicyError(
            f"{path} cannot be read ({error.strerror}): it holds lawful grounds, purposes and retention"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise PolicyError(f"{path}{f', line {mark.line + 1}' if mark else ''}: not valid YAML") from None
    except ValidationError as error:
        raise PolicyError(explain(path, error, PrivacyPolicy)) from None
