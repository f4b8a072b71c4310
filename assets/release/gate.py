"""The gate: which marts may be released to an audience, and what of them may be shown.

Belongs here: the joint system of the marts that may be protected, block by block, and the protected tables that come
out. Does not belong here: what must hold of a mart before that (assets.release.marts, assets.release.admission),
writing a release (assets.release.candidate), and the second look at what was written (assets.release.verify), which
shares no code with this one on purpose.

Everything happens in a DuckDB of its own in memory; nothing unprotected is written to disk or told in a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import filterfalse
from operator import attrgetter
from typing import Any

import duckdb
import numpy as np

from assets.release.admission import CBS, Checked, UnmetError, admit, described, load, number, spec_of
from assets.release.approval import unapproved
from assets.release.blocks import (
    Block,
    BlockError,
    Key,
    Part,
    blocks_of,
    read_all,
)
from assets.release.borders import BordersError
from assets.release.borders import load as load_borders
from assets.release.evidence import rounded_rows
from assets.release.history import (
    EvidenceError,
    History,
    Made,
    Seal,
    seal,
    sealed_file,
)
from assets.release.joint import Joint, norms_in_force
from assets.release.marts import Mart, failures, suppliers
from assets.release.postcodes import overlaps
from assets.release.tellings import compare
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, memory, quoted, warehouse
from quality.norms import Audience, Chain, Norms, NormsError
from quality.protection import (
    POSTCODES,
    UNKNOWN_BUURT,
    DisclosureSpec,
    ProtectionError,
    parse_spec,
    show,
)


class GateError(FactoryError):
    """Nothing can be released: the message names the tables and what each lacks."""


@dataclass(frozen=True)
class Passed:
    """A protected table: where it stands in the connection, and counts about it.

    Attributes:
        mart: what it was made from.
        spec: its disclosure spec.
        relation: name of the protected table in the gate's connection.
        chains: the periods under each label of norms.
        counts: cells per status.
        waived: quality norms that it does not meet and that were accepted.
    """

    mart: Mart
    spec: DisclosureSpec
    relation: str
    chains: Mapping[str, Sequence[str]]
    counts: Mapping[str, int]
    waived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A table that is not released now: which norm or fact stands in the way, without any figure.

    Attributes:
        cells: what the engine named, for sealed evidence alone.
    """

    mart: Mart
    norm: str
    reason: str
    cells: tuple[str, ...] = ()


@dataclass
class Gated:
    """What the gate lets through for an audience.

    Attributes:
        made: the protected blocks.
        history: what was released before; None where there is nothing to protect.
        seal: of this factory; idem.
        facts: counts for whoever watches: blocks solved and taken over, seconds.
    """

    connection: duckdb.DuckDBPyConnection
    passed: list[Passed]
    refused: list[Refused]
    made: list[Made] = field(default_factory=list)
    history: History | None = None
    seal: Seal | None = None
    facts: dict[str, float] = field(default_factory=dict)


@contextmanager
def gate(
    settings: Settings,
    audience: Audience,
    norms: Norms,
    marts: Sequence[Mart],
    ledger: Ledger,
    waivers: Collection[str],
    others: Sequence[Mart] = (),
) -> Iterator[Gated]:
    """Protect every mart that meets the norms, for one audience; the others are refused with the reason.

    Args:
        settings: of the factory.
        audience: who will read it.
        norms: the organisation's norms; they must name the audience.
        marts: what there is to release (`read_marts`).
        ledger: knows what was shown before, and under which norms.
        waivers: quality norms that were accepted for now.
        others: marts that do not go to this audience; what they tell to another counts.

    Yields:
        The protected tables, in a connection that closes afterwards.

    Raises:
        NormsError: the audience has no norms.
        EvidenceError: what was released before cannot be told for sure: nothing at all is released.
    """
    norms.steps(audience)
    with memory(settings.paths, settings.resources) as connection:
        refused: list[Refused] = []
        present = load(settings, connection, [*marts, *others])
        candidates: list[Checked] = []
        passed: list[Passed] = []
        failed, closed = failures(settings, marts), unapproved(settings, ledger, audience, marts, norms)
        whose = suppliers(settings, norms, marts)
        for mart in marts:
            try:
                spec = spec_of(mart, present, failed, closed)
                if spec.policy == "openbaar":
                    passed.append(_as_is(connection, mart, spec))
                else:
                    candidates.append(admit(connection, mart, spec, norms, waivers, whose))
            except UnmetError as unmet:
                refused.append(Refused(mart, unmet.norm, unmet.reason))
            except ProtectionError as error:
                refused.append(Refused(mart, "alleen_beschreven_kolommen", str(error)))
            except duckdb.Error as error:  # its text may hold a value
                reason = f"kolommen van een soort waarmee niet te rekenen is ({type(error).__name__})"
                refused.append(Refused(mart, "alleen_beschreven_kolommen", reason))
        gated = Gated(connection, passed, refused)
        if candidates or sealed_file(settings.paths, "").parent.is_dir():
            gated.seal = seal(settings)
            gated.history = History(settings, ledger, gated.seal)
            with warehouse(settings.paths, settings.resources, read_only=True) as source:
                borders = load_borders(settings, source)
            levels = gated.history.levels.union(*(own.spec.levels for own in candidates))
            joint = Joint(
                connection,
                audience,
                norms,
                norms_in_force(ledger, Chain.of(norms)),
                {checked.mart.name: checked for checked in candidates},
                gated.history,
                gated.seal,
                borders,
                overlaps(settings) if levels & set(POSTCODES) else {},
            )
            _protect(gated, joint, [mart for mart in (*marts, *others) if mart.name in present])
        gated.passed.sort(key=lambda table: table.mart.name)
        yield gated


def _as_is(connection: duckdb.DuckDBPyConnection, mart: Mart, spec: DisclosureSpec) -> Passed:
    described(connection, mart)
    row = connection.execute(f"SELECT count(*) FROM {quoted(mart.name)}").fetchone()
    return Passed(mart, spec, mart.name, {}, {"cellen": int(row[0]) if row else 0})


def _protect(gated: Gated, joint: Joint, elsewhere: Sequence[Mart]) -> None:
    """Protect all blocks of the marts; one with a block that cannot be is refused, and the rest goes on."""
    start, ready = time.monotonic(), joint.ready
    read = {}
    for name, checked in sorted(ready.items()):
        try:
            read[name] = read_all(gated.connection, quoted(name), name, checked.spec, checked.lowest)
        except BlockError as error:
            _refuse(gated, ready, name, "minimum", str(error))
    _on_one_grid(gated, ready, read)
    _under_one_name(gated, ready, read, elsewhere)
    shown: dict[str, dict[str, list[str]]] = {name: {} for name in ready}
    blocks = list(blocks_of({name: parts for name, parts in read.items() if name in ready}))
    for block in blocks:
        joint.blocks.setdefault((block.telling, block.periode), []).append(block)
    amounts: dict[Key, list[Block]] = {}
    for block in filter(attrgetter("is_amount"), blocks):
        amounts.setdefault((block.counted, block.periode, block.gemeente), []).append(block)
    for block in filterfalse(attrgetter("is_amount"), blocks):
        made = _made(gated, ready, block, joint.counts)
        if made is None:
            continue
        joint.made.append(made)
        for amount in amounts.get((block.telling, block.periode, block.gemeente), []):
            beside = _made(gated, ready, amount, partial(joint.amounts, made))
            joint.made += [beside] if beside is not None else []
        for part in made.block.parts:
            periods = shown[part.mart].setdefault(made.chain.label, [])
            if block.periode not in periods:
                periods.append(block.periode)
    # a mart that was refused on the way is not in this release, so neither is it in its evidence
    gated.made = [kept for made in joint.made if (kept := made.only(ready)).block.parts]
    for name, checked in ready.items():
        gated.passed.append(_shown(gated, checked, shown[name]))
    reused = sum(made.reused is not None for made in gated.made)
    gated.facts |= {
        "blokken_opgelost": sum(not made.block.is_empty for made in gated.made) - reused,
        "blokken_overgenomen": reused,
        "aandeel_waarde_geheim_pct": _hidden_share(gated.made),
        "seconden": round(time.monotonic() - start, 3),
    }


def _on_one_grid(gated: Gated, ready: dict[str, Checked], read: Mapping[str, Mapping[Key, Part]]) -> None:
    """Refuse a table that shows a count over other periods or borders than another table or an earlier release does.

    A year beside its months, or a municipality beside the one that took it over, is no block's: each would be
    protected alone, and one less the other could be what was hidden.
    """
    assert gated.history is not None
    seen: dict[tuple[str, str, str], set[int]] = {}
    for telling, period in gated.history.counted:
        seen.setdefault(("periodelengten", telling, period[:4]), set()).add(len(period))
    for name, checked in sorted(ready.items(), key=lambda item: (len(item[1].spec.total_of), item[0])):
        own: dict[tuple[str, str, str], set[int]] = {}
        for (telling, period, _), part in read[name].items():
            own.setdefault(("periodelengten", telling, period[:4]), set()).add(len(period))
            own.setdefault(("indelingen", telling, period), set()).add(part.indeling)
        clash = next((key for key, values in sorted(own.items()) if len(values | seen.get(key, set())) > 1), None)
        if clash is None:
            for key, values in own.items():
                seen.setdefault(key, set()).update(values)
        else:
            what, telling, period = clash
            reason = f"{telling} over {period} staat in een andere tabel of een eerdere levering in andere {what}"
            _refuse(gated, ready, checked.mart.name, "minimum", reason)


def _under_one_name(
    gated: Gated, ready: dict[str, Checked], read: Mapping[str, Mapping[Key, Part]], elsewhere: Sequence[Mart]
) -> None:
    """Refuse a count that follows from others, here, at another audience or in what anyone was ever shown.

    Where one of them was shown before, the others give way; else the last by name, wherever it goes.
    """
    assert gated.history is not None
    shown, tables = {telling for telling, _ in gated.history.counted}, gated.history.marts
    refused = {item.mart.name for item in gated.refused}
    counts = {name: parts for name, parts in read.items() if name in ready}
    going = set(shown)
    for mart in elsewhere:
        try:
            spec = parse_spec(mart.disclosure)
            is_of_others = mart.name not in refused
            if mart.name not in counts and spec.figures and (is_of_others or shown & spec.figures):
                counts[mart.name] = read_all(gated.connection, quoted(mart.name), mart.name, spec, spec.lowest)
                going |= spec.figures if is_of_others else set()
        except (BlockError, ProtectionError, duckdb.Error):  # such a mart goes to nobody
            continue
    compared = compare(counts, gated.connection, CBS)
    gated.facts["tellingen_niet_vergeleken"] = len({name for names in compared.unjudged for name in names})
    for clash in compared.clashes:
        able = {name for name in clash.tellingen if any(name in own.spec.figures for own in ready.values())}
        if not able or set(clash.tellingen) - able - going:  # one that was refused just now tells nothing
            continue
        if len(clash.tellingen) == 1:
            here = sorted(clash.marts & set(ready))
            if here and (len(here) > 1 or clash.marts & tables - set(here)):
                worst = max(here, key=lambda name: (name not in tables, len(ready[name].spec.total_of), name))
                reason = f"{clash.told}: laat een van beide indelingen weg, of maak er één van"
                _refuse(gated, ready, worst, "minimum", reason)
            continue
        late = set(clash.tellingen) - shown
        worst = max(late or able)
        for name in [name for name, own in ready.items() if worst in own.spec.figures]:
            reason = f"{clash.told}: tel ze onder één naam (telling in de disclosure-spec), met een indeling waar nodig"
            _refuse(gated, ready, name, "minimum", reason)


def _hidden_share(made: Sequence[Made]) -> float:
    """How much of what municipalities are shown to have is not shown in the finest cells, as a percentage.

    From shown values alone, so that it tells whoever watches the run nothing that readers cannot work out.
    """
    whole = parts = 0.0
    for item in made:
        if item.block.is_amount:
            continue
        for part, values in zip(item.block.parts, item.view.values, strict=True):
            finest = np.isin(part.heights, (part.levels[0], UNKNOWN_BUURT))
            for at, total in enumerate(part.spec.total_of.values(), start=1):
                finest &= np.array([key[at] != total for key in part.keys])
            top = part.is_total & (np.array(part.heights) == part.levels[-1]) & ~np.isnan(values)
            if top.any():
                whole += float(values[top].sum())
                parts += float(np.nansum(values[finest]))
    return round(max(100 * (1 - parts / whole), 0.0), 2) if whole else 0.0


def _made(gated: Gated, ready: dict[str, Checked], block: Block, view: Callable[[Block], Made]) -> Made | None:
    """A block as an audience may see it; marts that stand in the way are refused, breakdowns first.

    None where no mart is left.
    """
    while True:
        for part in block.parts:
            if part.mart not in ready:
                block = block.without(part.mart)
        if not block.parts:
            return None
        cells: tuple[str, ...] = ()
        try:
            return view(block)
        except (EvidenceError, BordersError) as error:
            norm, reason = "eerdere_leveringen", str(error)
        except NormsError:
            why = f"de normen waaronder {block.periode} eerder is geleverd zijn niet meer te lezen"
            norm, reason = "eerdere_leveringen", f"{why}; begin deze tabel opnieuw onder een andere naam"
        except FactoryError as error:
            norm, cells = "bescherming", (block.id, str(error), *getattr(error, "cells", ()))
            reason = _told(error, block.periode, was_shown=bool(gated.history and gated.history.about(block)))
        except Exception as error:  # noqa: BLE001  # whatever goes wrong while protecting: this block is not released
            norm, cells = "bescherming", (block.id, repr(error))
            reason = f"{block.periode}: {type(error).__name__} tijdens het beveiligen"
        worst = max(block.parts, key=lambda part: (len(part.spec.total_of), part.mart))
        _refuse(gated, ready, worst.mart, norm, reason, cells)


def _told(error: FactoryError, period: str, *, was_shown: bool) -> str:
    """Why a block is refused, in Dutch, and what may help: without the names of cells, or how many they are."""
    text = str(error)
    if isinstance(error, BlockError):
        return f"{period}: {error}"
    if "time" in text:
        return f"{period}: de tijd was om voordat de beveiliging bewezen was (tijdslimiet_s in normen.yaml)"
    if "no pattern" not in text and any(word in text for word in ("revision", "earlier release", "which input")):
        why = "past niet bij wat eerder is geleverd (herziening_maximaal in normen.yaml)"
        return f"{period}: {why}"
    why = "niet bewezen is dat alles wat verborgen moet zijn, verborgen blijft"
    if was_shown:
        return (
            f"{period}: {why} naast wat eerder over deze periode is geleverd en dus bekend blijft; de vorige versie "
            "blijft staan tot de cijfers weer veranderen, of de tabel in normen.yaml een hoger laagste_niveau krijgt"
        )
    return (
        f"{period}: {why}; wat kan helpen: een hoger laagste_niveau voor deze tabel in normen.yaml, minder klassen, "
        "of, waar zulke lezers niet zijn te verwachten, aanvaller: {vermoedt_klein: false}"
    )


def _refuse(
    gated: Gated, ready: dict[str, Checked], name: str, norm: str, reason: str, cells: Sequence[str] = ()
) -> None:
    gated.refused.append(Refused(ready.pop(name).mart, norm, reason, tuple(cells)))


def _shown(gated: Gated, checked: Checked, labels: Mapping[str, Sequence[str]]) -> Passed:
    """The protected table of a mart, from the blocks that it is in."""
    import pyarrow as pa

    connection, name, spec = gated.connection, checked.mart.name, checked.spec
    columns: dict[str, list[Any]] = {
        column: [] for column in ("telling", "periode", "code", *spec.total_of, "getoond", "is_afgerond")
    }
    for made in gated.made:
        for part, values in zip(made.block.parts, made.view.values, strict=True):
            if part.mart != name:
                continue
            at = np.flatnonzero(~np.isnan(values))
            columns["telling"] += [made.block.telling] * len(at)
            columns["periode"] += [made.block.periode] * len(at)
            for place, column in enumerate(("code", *spec.total_of)):
                columns[column] += [part.keys[i][place] for i in at]
            columns["getoond"] += values[at].tolist()
            columns["is_afgerond"] += rounded_rows(values[at], made.view.norms.afronding).tolist()
    relation, cells = f"{name}_beschermd", f"{name}_getoond"
    kinds = {"getoond": pa.float64(), "is_afgerond": pa.bool_()}
    table = pa.table({key: pa.array(values, kinds.get(key, pa.string())) for key, values in columns.items()})
    connection.register("_getoond", table)
    connection.execute(f"CREATE TEMP TABLE {quoted(cells)} AS SELECT * FROM _getoond")
    connection.unregister("_getoond")
    show(connection, name, cells, relation, spec)
    # which rows there are under the lowest level shown would tell where somebody is
    kept = [*spec.shown_levels(checked.lowest), *([UNKNOWN_BUURT] if checked.lowest != "GM" else [])]
    connection.execute(f"DELETE FROM {quoted(relation)} WHERE regio_niveau NOT IN ({', '.join(map(literal, kept))})")
    counts = {"cellen": number(connection, f"SELECT count(*) FROM {quoted(relation)}")}
    for status in ("verstrekt", "afgerond", "geheim", "onbekend", "nvt"):
        query = f"SELECT count(*) FROM {quoted(relation)} WHERE status = {literal(status)}"
        counts[status] = number(connection, query)
    periods = {label: sorted(covered) for label, covered in labels.items()}
    return Passed(checked.mart, spec, relation, periods, counts, checked.waived)
