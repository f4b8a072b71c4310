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
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import filterfalse
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from assets.release.admission import CBS, Checked, UnmetError, admit, described, load, number, spec_of
from assets.release.amounts import Counted, amount_views, as_norms
from assets.release.approval import unapproved
from assets.release.blocks import (
    Block,
    BlockError,
    Bools,
    Key,
    Part,
    View,
    blocks_of,
    read_all,
)
from assets.release.borders import Borders, BordersError
from assets.release.borders import load as load_borders
from assets.release.evidence import rounded_rows
from assets.release.history import (
    EvidenceError,
    Fresh,
    History,
    Made,
    Seal,
    Version,
    known_told,
    seal,
    sealed_file,
    shapes,
)
from assets.release.marts import Mart, failures, suppliers
from assets.release.postcodes import overlaps
from assets.release.tellings import compare
from assets.release.views import Knowledge, public_figures, views
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, memory, quoted, warehouse
from quality.norms import Audience, Chain, Norms, NormsError, amount_policy
from quality.protection import (
    POSTCODES,
    UNKNOWN_BUURT,
    DisclosureSpec,
    ProtectionError,
    parse_spec,
    show,
)

if TYPE_CHECKING:
    from quality.disclosure.spec import Policy


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
        borders: what is known of changes of borders.
        overlaps: which postcodes and buurten overlap, where any table is or was by postcode.
        blocks: per count and period all blocks, as they are counted.
    """

    connection: duckdb.DuckDBPyConnection
    passed: list[Passed]
    refused: list[Refused]
    made: list[Made] = field(default_factory=list)
    history: History | None = None
    seal: Seal | None = None
    facts: dict[str, float] = field(default_factory=dict)
    borders: Borders = field(default_factory=Borders)
    overlaps: Mapping[str, Collection[str]] = field(default_factory=dict)
    blocks: dict[tuple[str, str], list[Block]] = field(default_factory=dict)


def norms_in_force(ledger: Ledger, own: Chain) -> _InForce:
    """Which norms hold for a count of a period: those of its first release to anyone, else the policy's.

    The same figure under two roundings or thresholds tells more than under one, so new norms count for periods
    that nobody has seen yet.
    """
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for event in ledger.events("release"):
        for table, labels in event.payload.get("normen", {}).items():
            for label, covered in labels.items():
                for period in covered:
                    first.setdefault((table, period), (event.seq, label))
    return _InForce(first, own)


@dataclass(frozen=True)
class _InForce:
    first: Mapping[tuple[str, str], tuple[int, str]]
    own: Chain

    def chain(self, marts: Sequence[str], period: str) -> Chain:
        """The norms for a period of what these marts tell together: those under which any was first shown.

        Raises:
            NormsError: those of an old release that cannot be read any more.
        """
        found = sorted(self.first[mart, period] for mart in marts if (mart, period) in self.first)
        return Chain.parse(found[0][1]) if found else self.own


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
                gated.borders = load_borders(settings, source)
            if set(POSTCODES) & gated.history.levels.union(*(own.spec.levels for own in candidates)):
                gated.overlaps = overlaps(settings)
            elsewhere = [mart for mart in (*marts, *others) if mart.name in present]
            _protect(gated, audience, norms, candidates, norms_in_force(ledger, Chain.of(norms)), elsewhere)
        gated.passed.sort(key=lambda table: table.mart.name)
        yield gated


def _as_is(connection: duckdb.DuckDBPyConnection, mart: Mart, spec: DisclosureSpec) -> Passed:
    described(connection, mart)
    row = connection.execute(f"SELECT count(*) FROM {quoted(mart.name)}").fetchone()
    return Passed(mart, spec, mart.name, {}, {"cellen": int(row[0]) if row else 0})


def _protect(
    gated: Gated,
    audience: Audience,
    norms: Norms,
    candidates: Sequence[Checked],
    in_force: _InForce,
    elsewhere: Sequence[Mart],
) -> None:
    """Protect all blocks of the candidates; a mart with a block that cannot be is refused, and the rest goes on."""
    start = time.monotonic()
    ready = {checked.mart.name: checked for checked in candidates}
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
        gated.blocks.setdefault((block.telling, block.periode), []).append(block)
    amounts: dict[Key, list[Block]] = {}
    for block in filter(attrgetter("is_amount"), blocks):
        amounts.setdefault((block.counted, block.periode, block.gemeente), []).append(block)
    for block in filterfalse(attrgetter("is_amount"), blocks):
        made = _made(gated, ready, block, partial(_view, gated, audience, norms, ready, in_force))
        if made is None:
            continue
        gated.made.append(made)
        for amount in amounts.get((block.telling, block.periode, block.gemeente), []):
            beside = _made(gated, ready, amount, partial(_amount_view, gated, audience, norms, ready, made))
            gated.made += [beside] if beside is not None else []
        for part in made.block.parts:
            periods = shown[part.mart].setdefault(made.chain.label, [])
            if block.periode not in periods:
                periods.append(block.periode)
    # a mart that was refused on the way is not in this release, so neither is it in its evidence
    gated.made = [kept for made in gated.made if (kept := made.only(ready)).block.parts]
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


def _view(
    gated: Gated,
    audience: Audience,
    norms: Norms,
    ready: Mapping[str, Checked],
    in_force: _InForce,
    block: Block,
) -> Made:
    """What an audience may see of a block: as it was released before, or proved anew."""
    history, own = gated.history, gated.seal
    assert history is not None
    assert own is not None
    block = own.named(block)
    marts = [part.mart for part in block.parts]
    served = (who for who, _ in in_force.own.norms)
    chain = in_force.chain(marts, block.periode).joined([*served, *history.shown_to(block)])
    shape = shapes(block, {name: ready[name].lowest for name in marts})
    if bare := [name for name in marts if (name, block.periode) in history.bare]:
        raise EvidenceError(
            f"{', '.join(bare)} is over {block.periode} eerder geleverd zonder bewijs: haal die leveringen uit de "
            "fabriek, of begin in een nieuwe map"
        )
    wanted, strictest = norms.steps(audience)[-1], chain.norms[-1][1]
    if audience not in dict(chain.norms) and any(
        getattr(wanted, name) > getattr(strictest, name) for name in ("minimum", "bescherming", "afronding")
    ):
        raise EvidenceError(
            f"{block.periode} is eerder geleverd onder normen die voor {audience} niets bepaalden en minder streng zijn"
        )
    if block.is_empty:
        least = chain.least_shown(audience)[-1]
        view = View(tuple(part.count for part in block.parts), chain.steps(audience)[-1][1], least)
        return Made(block, view, chain, shape, norms.attackers)
    taken, reused = _taken(history, norms, chain, audience, block, {who: shape for who, _ in chain.steps(audience)})
    if reused is not None:
        return Made(block, taken[audience], chain, shape, norms.attackers, reused, steps=taken)
    steps, sealed = _solved(gated, audience, norms, ready, block, chain, taken)
    return Made(block, steps[audience], chain, shape, norms.attackers, None, sealed, steps)


def _taken(
    history: History,
    norms: Norms,
    chain: Chain,
    audience: Audience,
    block: Block,
    shape: Mapping[Audience, Mapping[str, Mapping[str, str]]],
) -> tuple[dict[Audience, View], Version | None]:
    """The views in the chain that were released before of the same figures, and the version that is the audience's."""
    taken: dict[Audience, View] = {}
    reused = None
    for who, own_norms in chain.steps(audience):
        for version in reversed(history.versions.get(who, {}).get(block.id, [])):
            # suppliers count in the first view alone, so no later one starts from a view that withstood fewer
            if who not in shape or (who != audience and version.aanvaller != norms.attackers):
                continue
            if version.normen == chain.label and version.indeling == block.indeling and version.covers(shape[who]):
                old = {part.mart: part.count for part in version.block(block).parts}
                values = tuple(old[part.mart] for part in block.parts)
                taken[who] = View(values, own_norms, chain.least_shown(who)[-1])
                reused = version if who == audience else reused
                break
    return taken, reused


def _solved(
    gated: Gated,
    audience: Audience,
    norms: Norms,
    ready: Mapping[str, Checked],
    block: Block,
    chain: Chain,
    taken: Mapping[Audience, View],
) -> tuple[dict[Audience, View], Mapping[str, Any]]:
    """The views of counts of all in the chain, and the engine's evidence for the last."""
    return views(
        block,
        chain,
        audience,
        _knowledge(gated, audience, norms, block, chain),
        taken,
        knows_own=norms.kent_eigen_cel,
        suspects=norms.aanvaller.vermoedt_klein,
        suppliers=_own_records(block, ready),
        time_limit=norms.tijdslimiet_s,
    )


def _readers(norms: Norms, chain: Chain, audience: Audience) -> dict[Audience, tuple[Audience, ...]]:
    """Per audience in the chain whose releases its readers know."""
    return {who: chain.known_to(who, partners=norms.aanvaller.partners) for who, _ in chain.steps(audience)}


def _knowledge(gated: Gated, audience: Audience, norms: Norms, block: Block, chain: Chain) -> Knowledge:
    """What readers know of the counts of a block besides what they are shown of it now."""
    assert gated.history is not None
    counts = {
        key[0]: float(count)
        for part in block.parts
        for key, count, is_total in zip(part.keys, part.count, part.is_total, strict=True)
        if is_total
    }
    told, sums = known_told(
        gated.history,
        _readers(norms, chain, audience),
        block,
        gated.blocks[block.telling, block.periode],
        gated.borders,
        _fresh(gated, audience, block),
    )
    revision = None if norms.herziening_maximaal == "geen" else norms.herziening_maximaal
    return Knowledge(
        told, sums, public_figures(gated.connection, CBS, block, counts, revision), revision, gated.overlaps
    )


def _amount_view(
    gated: Gated, audience: Audience, norms: Norms, ready: Mapping[str, Checked], counts: Made, block: Block
) -> Made:
    """What an audience may see of amounts, given the counts that they go with: as released before, or proved anew.

    Raises:
        EvidenceError: they were released in other borders.
    """
    history, own, chain = gated.history, gated.seal, counts.chain
    assert history is not None
    assert own is not None
    assert norms.bedragen is not None
    block = own.named(block)
    if any(version.indeling != block.indeling for _, _, version in history.about(block)):
        raise EvidenceError(
            f"bedragen over {block.periode} zijn eerder in andere grenzen geleverd, en hoe die over deze liggen telt "
            "voor bedragen niet mee"
        )
    steps = dict(counts.steps)
    if not block.is_empty and any(who not in steps for who, _ in chain.steps(audience)):
        steps, _ = _solved(gated, audience, norms, ready, counts.block, chain, steps)
    counted = Counted(counts.block, steps, _knowledge(gated, audience, norms, counts.block, chain))
    plain = shapes(block, {part.mart: ready[part.mart].lowest for part in block.parts})
    rules = amount_policy(norms.bedragen, chain.least_shown(audience)[0])
    shape = {
        who: {mart: one | {"grond": own.ground(mart, *_ground(block, counted, who, rules, norms))}
              for mart, one in plain.items()}
        for who in steps
    }  # fmt: skip
    exact = as_norms(chain.steps(audience)[-1][1], norms.bedragen)
    if block.is_empty:
        view = View(tuple(part.count for part in block.parts), exact, exact.minimum)
        return Made(block, view, chain, plain, norms.attackers)
    taken, reused = _taken(history, norms, chain, audience, block, shape)
    taken = {who: replace(view, norms=as_norms(view.norms, norms.bedragen)) for who, view in taken.items()}
    if reused is not None:
        return Made(block, taken[audience], chain, shape[audience], norms.attackers, reused)
    told, _ = known_told(history, _readers(norms, chain, audience), block, [block], gated.borders)
    view = amount_views(
        block,
        counted,
        chain,
        audience,
        told,
        taken,
        norms.bedragen,
        suspects=norms.aanvaller.vermoedt_klein,
        time_limit=norms.tijdslimiet_s,
    )
    # the engine's own evidence tells what unsafe amounts need, and that follows from the largest contributions
    return Made(block, view, chain, shape[audience], norms.attackers)


def _ground(block: Block, counted: Counted, who: Audience, rules: Policy, norms: Norms) -> Iterator[Any]:
    """All that decides what an audience may be shown of amounts, besides these themselves."""
    yield from (rules.model_dump_json(), norms.bedragen, norms.aanvaller.vermoedt_klein)
    yield from (column.tolist() for part in block.parts for _, column in sorted(part.columns.items()))
    yield from (hidden.tolist() for hidden in counted.hidden(block, who))


def _own_records(block: Block, ready: Mapping[str, Checked]) -> dict[str, list[Bools]]:
    """Per supplier which rows of each table of a block it knows; left out is who knows none, or all there is."""
    found = {}
    for who in sorted({who for part in block.parts for who in ready[part.mart].suppliers}):
        known = []
        for part in block.parts:
            own = ready[part.mart].suppliers.get(who, frozenset())
            whole = [at for at, name in enumerate(part.spec.total_of, start=1) if name not in own]
            totals = tuple(part.spec.total_of.values())
            counts = str(part.spec.count) in own
            known.append(np.array([counts and all(key[at] == totals[at - 1] for at in whole) for key in part.keys]))
        if any(rows.any() for rows in known) and not all(rows.all() for rows in known):
            found[who] = known
    return found


def _fresh(gated: Gated, audience: Audience, block: Block) -> list[Fresh]:
    """What this run shows anew of the same count and period in other municipalities."""
    found = []
    for made in gated.made:
        other = made.block
        if (other.telling, other.periode) == (block.telling, block.periode) and made.reused is None:
            found.append(Fresh(audience, other.shown(made.view.values), made.view.norms, made.view.least))
    return found


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
