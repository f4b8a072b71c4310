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
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datafabriek.config import Settings
from datafabriek.errors import FactoryError
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
        leveringen: deliveries that may be used for it.
        sleutelversie: version of its pseudonym key; raised to rotate.
        bewaartermijn_maanden: how long rows may stay in its tables, counted from `vanaf`: the end of the period they
            cover, or the day they were received (`ontvangst`).
        k: smallest group over the quasi-identifiers under which a load stops; None only measures.
    """

    omschrijving: Filled
    grondslag: Filled
    verwerkingsactiviteit: Filled
    leveringen: tuple[str, ...] = Field(min_length=1)
    sleutelversie: Annotated[int, Field(ge=1)] = 1
    k: Annotated[int, Field(ge=2)] | None = None


class DeliveryPolicy(_Kept):
    """How long a delivery stays in the vault, and its original with it."""


class PrivacyPolicy(_Section):
    """All of doelen.yaml."""

    versie: Filled
    voorbeeld: bool = False
    vastgesteld_op: date | None = None
    vastgesteld_door: str | None = None
    doelen: dict[str, PurposePolicy] = {}
    leveringen: dict[str, DeliveryPolicy] = {}

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

    def allowed(self, contract: Contract, delivery: str) -> list[Purpose]:
        """The purposes of a contract, each checked against this policy, retention included.

        Raises:
            PolicyError: a ground or a term is lacking.
        """
        if delivery not in self.leveringen:
            raise PolicyError(
                f"delivery `{delivery}` has no retention term: enter it in {FILE} of the policy folder under "
                f"`leveringen: {delivery}: {{bewaartermijn_maanden: …}}`"
            )
        for purpose in contract.purposes:
            self.purpose(purpose, delivery)
        return list(contract.purposes.values())


def load_policy(settings: Settings) -> PrivacyPolicy:
    """The privacy policy of a factory.

    Raises:
        PolicyError: there is no policy folder or file, or it is not in order; the message names key and remedy.
    """
    if settings.policy_folder is None:
        raise PolicyError(
            f"this factory has no policy folder: make {settings.source.parent / 'policy'} with {FILE}, in which lawful "
            "grounds, purposes and retention stand; the sample factory's is an example"
        )
    path = settings.policy_folder / FILE
    return _read(path)


def _read(path: Path) -> PrivacyPolicy:
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return PrivacyPolicy.model_validate(document)
    except OSError as error:
        raise PolicyError(
            f"{path} cannot be read ({error.strerror}): it holds lawful grounds, purposes and retention"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise PolicyError(f"{path}{f', line {mark.line + 1}' if mark else ''}: not valid YAML") from None
    except ValidationError as error:
        told = [f"`{'.'.join(str(p) for p in item['loc'])}`: {item['msg']}" for item in error.errors(include_url=False)]
        raise PolicyError(f"{path}: {'; '.join(told)}") from None
