"""From a delivered file to accepted and refused rows: repair as declared, judge by contract, count everything.

Belongs here: the judgement, piece by piece, in bounded memory. Does not belong here: where rows are kept.
A finding tells column, rule and number; an example in it is the shape of a value, never the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from assets.deliveries import superseding
from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Piece, Source, read
from quality import coordinates
from quality.coded import each, values_of
from quality.contracts.model import RELATION, UNJUDGED, Contract
from quality.repairs import RULES, instant, repair
from quality.schemas.deliveries import DOUBLED, EARLIER, KEY, TOLD, delivery_rules, judge, typed

if TYPE_CHECKING:
    from assets.deliveries.related import Related

Hashes = npt.NDArray[np.uint64]

PRINTED = "afdrukregel"
"""The head and foot of a print: told, and no rows that the supplier got wrong."""

_MOST_EXAMPLES = 3

UNSEEN = "onzichtbare_tekens"
_UNSEEN = r"[\u{AD}\u{180E}\u{200B}-\u{200F}\u{202A}-\u{202E}\u{2060}-\u{206F}\u{FEFF}]"


@dataclass
class Finding:
    """What one rule found in one column of a delivery.

    Attributes:
        column: empty for a rule on the whole line.
        rule: name of the dirt rule or of the broken rule.
        severity: that of the broken rule; `hersteld`, `afgesproken` of a code that was read as was agreed, or
            `correctie` of a record that replaces another or takes it back.
        count: rows it applies to.
        examples: shapes of values: 9 for a digit, a or A for a letter.
        lines: numbers of the first lines it was found on.
        earlier: of which deliveries records were replaced or taken back, and how many.
    """

    column: str
    rule: str
    severity: str
    count: int = 0
    examples: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    earlier: dict[str, int] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """The rule in words for the supplier."""
        if self.rule in RULES and self.severity in ("hersteld", "afgesproken"):
            return RULES[self.rule].told
        if self.rule.startswith(RELATION):
            other = self.rule.removeprefix(RELATION).removesuffix(UNJUDGED)
            if self.rule.endswith(UNJUDGED):
                return f"Kon niet worden getoetst: van levering {other} is nog niets binnen"
            return f"Waarde verwijst naar levering {other} en komt daar niet in voor"
        return TOLD.get(self.rule, _LAYOUT_TOLD.get(self.rule, self.rule.replace("_", " ")))


_LAYOUT_TOLD = {
    "spaties_achter_record": "Spaties achter het record weggehaald",
    UNSEEN: "Tekens weggehaald die niemand ziet, zoals een BOM midden in het bestand",
    **coordinates.REPAIRS,
    **superseding.TOLD,
}


@dataclass
class Tally:
    """The counts of one delivery: delivered = accepted + refused, always."""

    delivered: int = 0
    accepted: int = 0
    refused: int = 0
    repaired: int = 0
    findings: dict[tuple[str, str, str], Finding] = field(default_factory=dict)

    def add(self, column: str, rule: str, severity: str, count: int) -> Finding:
        """Count a finding and return it."""
        finding = self.findings.setdefault((column, rule, severity), Finding(column, rule, severity))
        finding.count += count
        return finding

    def assert_balanced(self) -> None:
        """Hold the invariant that nothing is dropped silently."""
        assert self.delivered == self.accepted + self.refused, "delivered is not accepted + refused"

    def as_json(self) -> list[dict[str, Any]]:
        """The findings, gravest first: counts, shapes and line numbers only."""
        order = {"fatal": 0, "error": 1, "warning": 2, superseding.CORRECTION: 3, "hersteld": 4, "afgesproken": 5}
        found = sorted(self.findings.values(), key=lambda f: (order[f.severity], -f.count, f.column, f.rule))
        return [{**asdict(finding), "told": finding.told} for finding in found]


@dataclass(frozen=True)
class Judged:
    """A judged part of a delivery.

    Attributes:
        accepted: the contract's columns in their types, and `LINE`.
        refused: `LINE`, `regels` (column.rule of each rule broken), `record` (as delivered).
    """

    accepted: pl.DataFrame
    refused: pl.DataFrame


def judged(
    source: Source, contract: Contract, period: str | None, tally: Tally, related: Related | None = None
) -> Iterator[Judged]:
    """Judge a delivery piece by piece.

    Args:
        source: the file.
        contract: what was agreed.
        period: what the rows must be about, where known.
        tally: counted into.
        related: the deliveries that rows refer to; None where they are not held to that.

    Raises:
        DeliveryError: the delivery as a whole cannot be taken in: unreadable, too many bad rows, a fatal rule
            broken, or empty where that was not agreed. Raised at the latest at the end: keep nothing before that.
    """
    rules = delivery_rules(contract, period)
    keys = Keys()
    for piece in read(source, contract):
        frame, touched = _repair(piece, contract, period, tally)
        findings = _weighed(judge(frame.drop(LINE), rules), contract)
        bad = findings.filter(pl.col("ernst") != "warning")["index"].unique()
        good = _without(len(frame), bad)
        if related is not None:
            lost = _weighed(related.broken(frame, good), contract)
            findings = pl.concat([findings, lost])
            good &= _without(len(frame), lost.filter(pl.col("ernst") != "warning")["index"])
        if related is not None and related.keys is not None:
            earlier = _taken(frame, good, contract, related.keys)
            findings = pl.concat([findings, earlier])
            good &= _without(len(frame), earlier["index"])
        if contract.key:
            twice = _repeated(frame.with_columns(_instants(frame, piece.rows, contract)), good, contract, keys)
            findings = pl.concat([findings, twice, *_ambiguous(frame, twice["index"], contract)])
            good &= _without(len(frame), twice["index"])
        _count(findings, frame, tally)
        for rule, count in piece.broken["regel"].value_counts().iter_rows():
            tally.add("", rule, "error", count).lines += piece.broken.filter(regel=rule)[LINE].head(5).to_list()
        for rule, count in piece.noted.items():
            tally.add("", rule, "warning", count)
        refused = _refused(piece, findings, ~good)
        tally.delivered += len(frame) + len(piece.broken)
        tally.accepted += int(good.sum())
        tally.refused += len(refused)
        tally.repaired += int((touched & good).sum())
        tally.assert_balanced()
        accepted = frame.filter(good)
        yield Judged(typed(accepted, contract.columns).with_columns(accepted[LINE]), refused)
    if related is not None:
        related.tell_unjudged(tally)
    _verdict(source, contract, tally)


def _repair(piece: Piece, contract: Contract, period: str | None, tally: Tally) -> tuple[pl.DataFrame, pl.Series]:
    """The rows after the declared repairs, and which rows they touched; counts per column and rule."""
    rows, unseen = _shown(piece.rows, tally)
    mended = repair(rows, contract.columns, period)
    for (column, rule), count in mended.counts.items():
        tally.add(column, rule, "hersteld", count)
    for (column, rule), count in mended.read.items():
        tally.add(column, rule, "afgesproken", count)
    for rule, count in piece.mended["regel"].value_counts().iter_rows():
        tally.add("", rule, "hersteld", count)
    rows, touched = mended.rows, mended.touched | unseen | piece.rows[LINE].is_in(piece.mended[LINE].implode())
    if contract.coordinates is not None:
        pair = [contract.coordinates.latitude, contract.coordinates.longitude]
        rows = rows.with_columns(pl.col(pair).cast(pl.String))
        rows, moved, crossed = coordinates.repair(rows, contract.coordinates)
        for rule, count in moved.items():
            tally.add(contract.coordinates.latitude, rule, "hersteld", count)
        touched |= crossed
    return rows, touched


def _shown(rows: pl.DataFrame, tally: Tally) -> tuple[pl.DataFrame, pl.Series]:
    """The rows without what nobody sees, as the mark between two files made one, and which rows had any.

    With it one key would be two, and no eye could tell them apart.
    """
    touched = pl.repeat(False, len(rows), eager=True)
    for column in rows.drop(LINE):
        values = values_of(column)
        if (values.str.len_bytes() == values.str.len_chars()).all():
            continue  # ASCII, as nearly all
        found = each(column, lambda texts: texts.str.contains(_UNSEEN)).fill_null(value=False)
        if found.any():
            tally.add(column.name, UNSEEN, "hersteld", int(found.sum()))
            rows = rows.with_columns(each(column, lambda texts: texts.str.replace_all(_UNSEEN, "")).alias(column.name))
            touched |= found
    return rows, touched


def _without(height: int, index: pl.Series) -> pl.Series:
    """True for every row but those."""
    return ~pl.select(pl.int_range(height, dtype=pl.UInt32)).to_series().is_in(index.implode())


def _weighed(findings: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Findings with their severity."""
    weights = {}
    for column, rule in findings.select("kolom", "regel").unique().iter_rows():
        own = {item.name: item.severity for item in (*contract[column].rules, *contract.rules)}
        weights[f"{column}.{rule}"] = own.get(rule) or contract[column].severity(rule)
    name = pl.concat_str("kolom", pl.lit("."), "regel")
    return findings.with_columns(name.replace_strict(weights, default="error", return_dtype=pl.String).alias("ernst"))


class Keys:
    """The keys of a delivery so far, as 128 bits of hash: 16 bytes a row, whatever the key.

    They lie in sorted runs, each at least twice as long as the next, so that a delivery of twice the rows takes
    hardly more than twice the time. Two keys are taken for one only where all 128 bits agree; that 64 of them agree
    by chance, behind which a repeated key could hide, is to be expected in one of a million deliveries.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Hashes, Hashes]] = []

    def repeated(self, first: Hashes, second: Hashes) -> npt.NDArray[np.bool_]:
        """Which of these keys, two halves of a hash a row, came before: here or in an earlier call; and keep them."""
        order = np.argsort(first)
        a, b = first[order], second[order]
        if (a[1:] == a[:-1]).any():  # seldom: then the first of them must stay the first, which takes four times longer
            order = np.argsort(first, kind="stable")
            a, b = first[order], second[order]
        again = np.zeros(len(a), np.bool_)
        again[1:] = (a[1:] == a[:-1]) & (b[1:] == b[:-1])
        again |= self.held(a, b)
        self._keep(a[~again], b[~again])
        found = np.empty_like(again)
        found[order] = again
        return found

    def held(self, first: Hashes, second: Hashes) -> npt.NDArray[np.bool_]:
        """Which of these keys are kept; fastest where they are sorted."""
        found = np.zeros(len(first), np.bool_)
        for run, rest in self._runs:
            place = np.minimum(np.searchsorted(run, first), len(run) - 1)
            found |= (run[place] == first) & (rest[place] == second)
        return found

    def _keep(self, a: Hashes, b: Hashes) -> None:
        while self._runs and len(self._runs[-1][0]) < 2 * len(a):
            run, rest = self._runs.pop()
            a, b = np.concatenate([run, a]), np.concatenate([rest, b])
            order = np.argsort(a, kind="stable")  # linear: two runs that are sorted
            a, b = a[order], b[order]
        if len(a):
            self._runs.append((a, b))


def _repeated(frame: pl.DataFrame, good: pl.Series, contract: Contract, keys: Keys) -> pl.DataFrame:
    """Good rows whose key came before, as findings; the first of a key counts."""
    index = good.arg_true()
    first, second = (half[index] for half in key_hashes(frame, contract))
    return _of_key(index.filter(pl.Series(keys.repeated(first, second))), KEY, contract)


def _instants(frame: pl.DataFrame, delivered: pl.DataFrame, contract: Contract) -> list[pl.Series]:
    """Moments of a key with their instant, in the hour of October that comes twice, where the source tells it."""
    found = []
    for name in _moments(contract):
        if not any(step.rule == "moment_lokaal" for step in contract[name].repairs):
            continue
        local = frame[name].cast(pl.String)
        there = pl.lit(delivered[name].cast(pl.String)).str.strip_chars()
        told = pl.when(_twice_told(local)).then(instant(there).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        found.append(pl.select(pl.coalesce(told, local).alias(name)).to_series())
    return found


def _ambiguous(frame: pl.DataFrame, index: pl.Series, contract: Contract) -> list[pl.DataFrame]:
    """Of rows refused for their key, those whose moment lies in the hour that comes twice: they may be right."""
    found = []
    for name in _moments(contract) if len(index) else ():
        doubled = index.filter(_twice_told(frame[name].gather(index).cast(pl.String)))
        found.append(
            pl.DataFrame({"index": doubled}, schema={"index": pl.UInt32}).with_columns(
                kolom=pl.lit(name), regel=pl.lit(DOUBLED), ernst=pl.lit("warning")
            )
        )
    return found


def _moments(contract: Contract) -> list[str]:
    return [name for name in contract.key if contract[name].type == "timestamp"]


def _twice_told(local: pl.Series) -> pl.Series:
    """Whether a local moment lies in the hour that comes twice: the last Sunday of October, from two to three."""
    moment = local.str.replace("T", " ", literal=True).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).dt
    last_sunday = (moment.month() == 10) & (moment.weekday() == 7) & (moment.day() >= 25)
    return (last_sunday & (moment.hour() == 2)).fill_null(value=False)


def _taken(frame: pl.DataFrame, good: pl.Series, contract: Contract, keys: Keys) -> pl.DataFrame:
    """Good rows whose key stands in another delivery, as findings: in the types in which the vault keeps it."""
    index = good.arg_true()
    columns = [contract[name] for name in contract.key]
    first, second = key_hashes(typed(frame.select(contract.key)[index], columns), contract)
    return _of_key(index.filter(pl.Series(keys.held(first, second))), EARLIER, contract)


def _of_key(index: pl.Series, rule: str, contract: Contract) -> pl.DataFrame:
    return pl.DataFrame({"index": index}, schema={"index": pl.UInt32}).with_columns(
        kolom=pl.lit(contract.key[0]), regel=pl.lit(rule), ernst=pl.lit("error")
    )


def key_hashes(frame: pl.DataFrame, contract: Contract) -> tuple[Hashes, Hashes]:
    """Two halves of a hash of every row's key."""
    first, second = (hashed(frame, contract.key, seed).to_numpy() for seed in (0, 1))
    return first, second


def hashed(frame: pl.DataFrame, key: Sequence[str], seed: int) -> pl.Series:
    """64 bits of hash of every row's values in these columns, texts or coded; equal texts have one hash."""
    hashes = [each(frame[name], partial(_hash, seed=2 * place + seed)) for place, name in enumerate(key)]
    # a null has one hash, whether its column is coded or not
    told = [pl.when(frame[name].is_not_null()).then(own).otherwise(0) for name, own in zip(key, hashes, strict=True)]
    return pl.select(pl.sum_horizontal(told)).to_series()


def _hash(values: pl.Series, seed: int) -> pl.Series:
    return values.hash(seed)


def _count(findings: pl.DataFrame, frame: pl.DataFrame, tally: Tally) -> None:
    for (column, rule, severity), rows in findings.group_by("kolom", "regel", "ernst", maintain_order=True):
        finding = tally.add(str(column), str(rule), str(severity), len(rows))
        first = rows["index"].head(5).to_list()
        finding.lines += frame[LINE].gather(first).to_list()[: 5 - len(finding.lines)]
        # in an open column too: a value that broke a rule may be a name that moved a column
        for example in map(shape, frame[str(column)].gather(first).to_list()):
            if example and example not in finding.examples and len(finding.examples) < _MOST_EXAMPLES:
                finding.examples.append(example)


def shape(value: str | None) -> str:
    """What a value looks like, without the value: digits as 9, letters as a or A; nothing longer than 20.

    A control character would move the cursor of whoever reads it in a log: it is told as `?`.
    """
    letters = ("9" if c.isdigit() else "A" if c.isupper() else "a" if c.isalpha() else c for c in (value or "")[:20])
    return "".join(c if c.isprintable() else "?" for c in letters)


def _refused(piece: Piece, findings: pl.DataFrame, bad: pl.Series) -> pl.DataFrame:
    """Refused rows as they were delivered, with the rules they broke."""
    columns = [name for name in piece.rows.columns if name != LINE]
    reasons = (
        findings.filter(pl.col("ernst") != "warning")
        .group_by("index")
        .agg(pl.concat_str("kolom", pl.lit("."), "regel").unique().sort().alias("regels"))
    )
    rows = (
        piece.rows.with_row_index("index")
        .filter(bad)
        .join(reasons, on="index", how="left", maintain_order="left")
        .select(LINE, "regels", pl.struct(columns).struct.json_encode().alias("record"))
    )
    lines = piece.broken.select(LINE, pl.concat_list("regel").alias("regels"), "record")
    return pl.concat([rows, lines])


def _verdict(source: Source, contract: Contract, tally: Tally) -> None:
    """Whether the delivery as a whole stands.

    Raises:
        DeliveryError: it does not.
    """
    fatal = [finding for finding in tally.findings.values() if finding.severity == "fatal"]
    if fatal:
        first = fatal[0]
        raise DeliveryError(
            f"{source.name}: rule `{first.rule}` on column `{first.column}` may never be broken and is, {first.count} "
            f"time(s), first on line {first.lines[0]}: have the supplier correct and deliver again"
        )
    printed = sum(finding.count for finding in tally.findings.values() if finding.rule == PRINTED)
    if tally.delivered == printed and not contract.empty_allowed:
        raise DeliveryError(
            f"{source.name} holds no rows, which contract {contract.name} does not allow: have it delivered again"
        )
    wrong = [f for f in tally.findings.values() if f.severity == "error" and f.rule != PRINTED]
    if tally.delivered and (tally.refused - printed) / tally.delivered > contract.max_refused:
        worst = max(wrong, key=lambda f: f.count)
        where = f"column `{worst.column}`, " if worst.column else ""
        raise DeliveryError(
            f"{source.name}: {tally.refused} of {tally.delivered} rows are refused, more than the agreed "
            f"{contract.max_refused:.0%}; most often {where}rule `{worst.rule}` ({worst.count} times, first on line "
            f"{worst.lines[0] if worst.lines else '?'}): have the supplier correct and deliver again"
        )
