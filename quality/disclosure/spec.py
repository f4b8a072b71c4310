"""What a publisher declares about a table: its shape, its norms, what the attacker knows, what must be proved.

Belongs here: the form of SPEC.yaml and of a policy, and nothing that computes. Norms are policy with a version and
a source; parameters of concentration rules may be named by an environment variable or a file outside the
repository, because whoever knows them can undo what they protect (Hundepool et al., Handbook on SDC, 4.2).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from quality.disclosure.errors import DisclosureError


def _confidential(value: Any) -> Any:
    """Resolve `{env: NAME}` and `{file: PATH}`; the number itself is never echoed in an error."""
    if isinstance(value, dict) and set(value) == {"env"}:
        found = os.environ.get(str(value["env"]))
        if found is None:
            raise ValueError(f"the environment variable {value['env']} that should hold this parameter is not set")
        return found
    if isinstance(value, dict) and set(value) == {"file"}:
        path = Path(str(value["file"])).expanduser()
        if not path.is_file():
            raise ValueError(f"the file {path} that should hold this parameter is not there")
        return path.read_text(encoding="utf-8").strip()
    return value


Confidential = Annotated[float, BeforeValidator(_confidential)]


class _Part(BaseModel):
    # not a number compares as "no" with everything, so that a norm that is none would call every cell safe
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


_M = TypeVar("_M", bound=_Part)


class DimensionSpec(_Part):
    """One dimension: the code of its total and, where it is a tree, a CSV of `code,parent` beside the spec.

    `open` names the codes of which not all parts stand in the table: they are at least the sum of those that do.
    """

    total: str = "Total"
    hierarchy: Path | None = None
    open: tuple[str, ...] = ()


class FrequencyRule(_Part):
    """A cell with 0 < n < `minimum` contributors is unsafe."""

    rule: Literal["frequency"]
    minimum: Annotated[int, Field(ge=2)]


class PPercentRule(_Part):
    """A cell is unsafe when X − x1 − x2 < p/100 · x1: the second can estimate the first within p percent."""

    rule: Literal["p_percent"]
    p: Confidential = Field(repr=False, gt=0)


class DominanceRule(_Part):
    """A cell is unsafe when its n largest contributors hold more than k percent (n is 1 or 2)."""

    rule: Literal["dominance"]
    n: Annotated[int, Field(ge=1, le=2)]
    k: Confidential = Field(repr=False, gt=0, le=100)


class GroupRule(_Part):
    """No category of `dimension` may hold `share` percent or more of a population: then the rest tells too much.

    Hides the full category and the (nearly) empty ones beside it, zeros included (rule of thumb: 90).
    """

    rule: Literal["group_disclosure"]
    dimension: str
    share: Annotated[float, Field(gt=50, le=100)] = 90.0


class PopulationRule(_Part):
    """Every cell of an area with fewer than `minimum` inhabitants is unsafe; `column` holds the inhabitants."""

    rule: Literal["minimum_population"]
    minimum: Annotated[int, Field(ge=1)]
    column: str = "population"


class GivenRule(_Part):
    """Cells whose `status` column says U are unsafe."""

    rule: Literal["given"]


Rule = Annotated[
    FrequencyRule | PPercentRule | DominanceRule | GroupRule | PopulationRule | GivenRule, Field(discriminator="rule")
]


class Protection(_Part):
    """What the attacker's interval must allow: around the true value (absolute, percent, columns), or its width."""

    absolute: Annotated[float, Field(gt=0)] | None = None
    percent: Annotated[Confidential, Field(gt=0)] | None = Field(default=None, repr=False)
    width: Annotated[float, Field(gt=0)] | None = None
    columns: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Protection:
        given = [self.absolute is not None, self.percent is not None, self.width is not None, self.columns]
        if sum(given) != 1:
            raise ValueError("name exactly one of absolute, percent, width, columns")
        return self


class Attacker(_Part):
    """Who the figures must withstand.

    The default attacker knows that zeros are shown, so that a hidden count is at least 1, and knows the norm, so
    that every connected set of hidden cells holds at least one that the norm calls unsafe. `lower` and `upper`
    replace that by plain bounds; `percent` gives bounds around the true value (only judged with the truth at hand).

    Attributes:
        lower: least value of a hidden cell; None means the default attacker.
        upper: largest value of a hidden cell; None means no bound.
        percent: the attacker knows every hidden value within this percentage beforehand.
        suspects_primary: believes of every hidden count that can be under the minimum that it is, wherever that fits
            what is published. Mostly he is wrong, but where nearly all hidden cells are primary he is right, and then
            he must be left with as much room: the protection that is asked, or all of 1 to the minimum where that is
            less. Takes more suppression.
        contributors: a single contributor knows its own cell (judged with the truth at hand).
        suppliers: who supplied records knows its own cells, those that the spec lists under `known`.
        partners: partners share what each of them got, so their releases under `earlier` count too.
    """

    lower: float | None = None
    upper: float | None = None
    percent: Annotated[float, Field(gt=0)] | None = None
    suspects_primary: bool = False
    contributors: bool = False
    suppliers: bool = True
    partners: bool = True

    @model_validator(mode="after")
    def _suspects_by_the_norm(self) -> Attacker:
        if self.suspects_primary and not self.knows_norm:
            raise ValueError("`suspects_primary` goes with the default attacker, who knows the norm")
        return self

    @property
    def knows_norm(self) -> bool:
        """Whether this is the default attacker, who reasons with the norm and the zeros that are shown."""
        return self.lower is None and self.percent is None


def _named(value: Any) -> Any:
    return {} if value == "default" else value


WhoAttacks = Annotated[Attacker, BeforeValidator(_named)]


class Rounding(_Part):
    """Published values are multiples of `base`; `controlled` keeps the table additive.

    `suppress: false` publishes unsafe cells too, rounded; they then need an interval of at least `width`.
    With `cell_key` every figure is moved by at most `base` instead, by a secret `key` that stands outside the
    repository and is needed to protect, not to audit; a zero stays zero.
    """

    base: Annotated[int, Field(ge=1)]
    method: Literal["conventional", "controlled", "cell_key"] = "conventional"
    suppress: bool = True
    width: Annotated[float, Field(gt=0)] = 1.0
    key: Annotated[str, BeforeValidator(_confidential), Field(min_length=16)] | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _fits_its_method(self) -> Rounding:
        if self.method != "cell_key" and self.key is not None:
            raise ValueError("only `cell_key` has a `key`")
        if self.method != "cell_key" and self.base < 2:
            raise ValueError("a `base` to round to is 2 or more")
        return self


class Policy(_Part):
    """A versioned set of norms of the organisation; a spec names it with `policy: NAME`.

    `source` says where the norm comes from and since when, because no common municipal threshold exists.
    """

    name: str = "spec"
    version: str = "1"
    source: str | None = None
    primary: tuple[Rule, ...] = ()
    protection: Protection | None = None
    attacker: WhoAttacks = Attacker()
    rounding: Rounding | None = None
    cost: Literal["value", "unit", "frequency", "column"] = "unit"

    @property
    def minimum(self) -> int | None:
        """The smallest count that may be shown, if a frequency rule names one."""
        found = [rule.minimum for rule in self.primary if isinstance(rule, FrequencyRule)]
        return max(found) if found else None

    @property
    def hides_zeros(self) -> bool:
        """Whether a zero can be hidden, so that hidden no longer means at least 1."""
        return any(isinstance(rule, GroupRule | PopulationRule) for rule in self.primary)


class EarlierSpec(_Part):
    """A table that was published before, as it was published; withdrawn ones count, since someone may have kept them.

    Attributes:
        table: the file, beside the spec.
        release: what it is called.
        input: the data it was made from; the same name as the spec's own `input` means the same figures.
        spec: its shape and rounding where they differ, as for another geography.
        revision: how much a figure can have been revised since at most, where the input differs.
        partner: who got it, if it was not for this table's own audience.
    """

    table: Path
    release: str
    input: str
    spec: Path | None = None
    revision: Annotated[float, Field(ge=0)] | None = None
    partner: str | None = None


class Term(_Part):
    """A cell in a fact: its non-total codes, where needed its measure or the release it stood in, and its weight."""

    cell: dict[str, str] = {}
    measure: str | None = None
    release: str | None = None
    weight: float = 1.0


class FactSpec(_Part):
    """A figure that was or will be published about the cells: a sum, a rate, or a file of rates.

    A sum: `terms` with `equals`, or `lower` and `upper`. A rate: `rate` of `numerator` to `denominator` (a cell, or a
    number that is known), times `per`, in so many `decimals`. A file of rates: `rates` with a column per dimension,
    the rates in `column`, and as denominator a column of the file or a cell in which the row's other codes stay.
    """

    why: str
    terms: tuple[Term, ...] = ()
    equals: float | None = None
    lower: float | None = None
    upper: float | None = None
    rate: float | None = None
    rates: Path | None = None
    column: str | None = None
    numerator: Term = Term()
    denominator: float | Term | str | None = None
    per: Annotated[float, Field(gt=0)] = 1000.0
    decimals: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _one_kind(self) -> FactSpec:
        if sum((bool(self.terms), self.rate is not None, self.rates is not None)) != 1:
            raise ValueError("name exactly one of terms, rate, rates")
        if self.terms and (self.equals is None) == (self.lower is None and self.upper is None):
            raise ValueError("terms need `equals`, or `lower` and `upper`")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError("`lower` is more than `upper`")
        if not all(term.weight for term in (*self.terms, self.numerator)):
            raise ValueError("a term with `weight: 0` tells nothing")
        if not self.terms and self.denominator is None:
            raise ValueError("a rate needs its `denominator`")
        if self.rate is not None and isinstance(self.denominator, str):
            raise ValueError("the `denominator` of one rate is a number or a cell")
        if (self.rates is None) != (self.column is None):
            raise ValueError("`rates` and `column` go together")
        return self


class Spec(_Part):
    """SPEC.yaml: the shape of one table, its norms (or the policy that holds them) and the tables linked to it.

    `earlier`, `facts` and `known` (per supplier its cells, or a file of them) are what the attacker knows besides.
    """

    dimensions: dict[str, DimensionSpec] = Field(min_length=1)
    measure: str
    kind: Literal["count", "magnitude"] | None = None
    table: Path | None = None
    policy: str | None = None
    primary: tuple[Rule, ...] | None = None
    protection: Protection | None = None
    attacker: WhoAttacks | None = None
    cost: Literal["value", "unit", "frequency", "column"] | None = None
    rounding: Rounding | None = None
    linked: tuple[Path, ...] = ()
    input: str | None = None
    earlier: tuple[EarlierSpec, ...] = ()
    facts: tuple[FactSpec, ...] = ()
    known: dict[str, Path | tuple[dict[str, str], ...]] = {}
    folder: Path = Path()

    def norms(self, policy_folder: Path | None = None) -> Policy:
        """The norms that hold for this table: those of the named policy, with what the spec itself sets on top.

        Raises:
            DisclosureError: the policy is not there, or nothing says what is unsafe.
        """
        base = load_policy(self.policy, policy_folder or self.folder / "policy") if self.policy else Policy()
        own = {
            key: getattr(self, key)
            for key in ("primary", "protection", "attacker", "cost", "rounding")
            if getattr(self, key) is not None
        }
        if base.name != "spec" and "primary" in own:
            raise DisclosureError(
                f"spec of measure {self.measure}: both `policy` and `primary` are given; keep the norm in the policy"
            )
        norms = base.model_copy(update=own)
        if not norms.primary and norms.rounding is None:
            raise DisclosureError(
                f"spec of measure {self.measure}: nothing says which cells are unsafe; name `policy` or `primary`"
            )
        return norms


def load_spec(path: Path) -> Spec:
    """Read a SPEC.yaml; relative paths in it count from its own folder.

    Raises:
        DisclosureError: not there, not YAML, or a key that is unknown or misses a value.
    """
    return _load(path, Spec, {"folder": path.parent})


def load_policy(name: str, folder: Path) -> Policy:
    """Read the policy `name` from `folder`/disclosure/NAME.yaml or `folder`/NAME.yaml."""
    for path in (folder / "disclosure" / f"{name}.yaml", folder / f"{name}.yaml"):
        if path.is_file():
            return _load(path, Policy, {"name": name})
    raise DisclosureError(
        f"the disclosure policy {name!r} is not in {folder}; write {folder}/disclosure/{name}.yaml with its version, "
        "source, primary rules, protection and attacker"
    )


def parse_spec(data: dict[str, Any], where: str = "spec") -> Spec:
    """A spec from a mapping, as a dbt model's `meta` or a test holds it."""
    return _validated(data, Spec, where)


def _load(path: Path, model: type[_M], extra: dict[str, Any]) -> _M:
    if not path.is_file():
        raise DisclosureError(f"{path} is not there")
    import yaml

    from datafabriek.mistakes import load

    try:
        data = load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DisclosureError(f"{path} is not YAML in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise DisclosureError(f"{path} should hold a mapping of keys")
    return _validated({**data, **extra}, model, path)


def _validated(data: dict[str, Any], model: type[_M], where: Path | str) -> _M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        from datafabriek.mistakes import explain

        raise DisclosureError(explain(where, error, model)) from None
