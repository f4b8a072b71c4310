"""The joint system of a run: all that marts tell of one count, with all that an audience knows of it, and its view.

Belongs here: what is known of a block (releases of before, CBS, other borders, postcodes, suppliers) and whether what
was released of it before is taken over, or made anew. Does not belong here: how a view is made and proved
(assets.release.views, assets.release.amounts), and which marts come this far (assets.release.gate).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np

from assets.release.admission import CBS, Checked
from assets.release.amounts import Counted, amount_views, as_norms
from assets.release.blocks import Block, Bools, View
from assets.release.borders import Borders
from assets.release.history import EvidenceError, Fresh, History, Made, Seal, Version, known_told, shapes
from assets.release.views import Knowledge, public_figures, views
from datafabriek.ledger import Ledger
from quality.norms import Audience, Chain, Level, Norms, amount_policy


def norms_in_force(ledger: Ledger, own: Chain) -> InForce:
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
    return InForce(first, own)


@dataclass(frozen=True)
class InForce:
    """Per table and period the norms of its first release to anyone, as the ledger tells; else the policy's own."""

    first: Mapping[tuple[str, str], tuple[int, str]]
    own: Chain

    def chain(self, marts: Sequence[str], period: str) -> Chain:
        """The norms for a period of what these marts tell together: those under which any was first shown.

        Raises:
            NormsError: those of an old release that cannot be read any more.
        """
        found = sorted(self.first[mart, period] for mart in marts if (mart, period) in self.first)
        return Chain.parse(found[0][1]) if found else self.own


@dataclass
class Joint:
    """What the blocks of one audience are made from.

    Attributes:
        connection: holds CBS's public figures.
        audience: who is served.
        norms: the organisation's.
        in_force: those of periods that anyone was shown before.
        ready: per name the marts that may be protected, as far as none of their blocks stood in the way.
        history: what was released before.
        seal: of this factory.
        borders: what is known of changes of borders.
        overlaps: which postcodes and buurten overlap, where any table is or was by postcode.
        blocks: per count and period all blocks, as they are counted.
        made: the blocks that were made so far.
    """

    connection: duckdb.DuckDBPyConnection
    audience: Audience
    norms: Norms
    in_force: InForce
    ready: dict[str, Checked]
    history: History
    seal: Seal
    borders: Borders
    overlaps: Mapping[str, Collection[str]] = field(default_factory=dict)
    blocks: dict[tuple[str, str], list[Block]] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)

    def counts(self, block: Block) -> Made:
        """How the counts of a block may be shown: as they were released before, or proved anew.

        Raises:
            FactoryError: nothing of it may be released; also EvidenceError, BordersError, NormsError.
        """
        history, block = self.history, self.seal.named(block)
        marts = [part.mart for part in block.parts]
        served = (who for who, _ in self.in_force.own.norms)
        chain = self.in_force.chain(marts, block.periode).joined([*served, *history.shown_to(block)])
        shape = shapes(block, self._lowest(block))
        if bare := [name for name in marts if (name, block.periode) in history.bare]:
            raise EvidenceError(
                f"{', '.join(bare)} is over {block.periode} eerder geleverd zonder bewijs: haal die leveringen uit de "
                "fabriek, of begin in een nieuwe map"
            )
        wanted, strictest = self.norms.steps(self.audience)[-1], chain.norms[-1][1]
        if self.audience not in dict(chain.norms) and any(
            getattr(wanted, name) > getattr(strictest, name) for name in ("minimum", "bescherming", "afronding")
        ):
            raise EvidenceError(
                f"{block.periode} is eerder geleverd onder normen die voor {self.audience} niets bepaalden en minder "
                "streng zijn"
            )
        if block.is_empty:
            least = chain.least_shown(self.audience)[-1]
            view = View(tuple(part.count for part in block.parts), chain.steps(self.audience)[-1][1], least)
            return Made(block, view, chain, shape, self.norms.attackers)
        taken, reused = self._taken(chain, block, {who: shape for who, _ in chain.steps(self.audience)})
        if reused is not None:
            return Made(block, taken[self.audience], chain, shape, self.norms.attackers, reused, steps=taken)
        steps, sealed = self._solved(block, chain, taken)
        return Made(block, steps[self.audience], chain, shape, self.norms.attackers, None, sealed, steps)

    def amounts(self, counts: Made, block: Block) -> Made:
        """How amounts may be shown, given the counts that they go with: as released before, or proved anew.

        Raises:
            EvidenceError: they were released in other borders.
            FactoryError: nothing of them may be released.
        """
        history, own, chain = self.history, self.norms.bedragen, counts.chain
        assert own is not None
        block = self.seal.named(block)
        if any(version.indeling != block.indeling for _, _, version in history.about(block)):
            raise EvidenceError(
                f"bedragen over {block.periode} zijn eerder in andere grenzen geleverd, en hoe die over deze liggen "
                "telt voor bedragen niet mee"
            )
        exact = as_norms(chain.steps(self.audience)[-1][1], own)
        steps, shape = dict(counts.steps), self._grounds(chain, block, counts.block, counts.steps)
        if block.is_empty:
            view = View(tuple(part.count for part in block.parts), exact, exact.minimum)
            return Made(block, view, chain, shapes(block, self._lowest(block)), self.norms.attackers)
        taken, reused = self._taken(chain, block, shape)
        if reused is None and any(who not in steps for who, _ in chain.steps(self.audience)):
            steps, _ = self._solved(counts.block, chain, steps)
            taken, _ = self._taken(chain, block, self._grounds(chain, block, counts.block, steps))
        taken = {who: replace(view, norms=as_norms(view.norms, own)) for who, view in taken.items()}
        if reused is not None:
            return Made(block, taken[self.audience], chain, shape[self.audience], self.norms.attackers, reused)
        told, _ = known_told(history, self._readers(chain), block, [block], self.borders)
        view = amount_views(
            block,
            Counted(counts.block, steps),
            self._knowledge(counts.block, chain),
            chain,
            self.audience,
            told,
            taken,
            own,
            suspects=self.norms.aanvaller.vermoedt_klein,
            time_limit=self.norms.tijdslimiet_s,
        )
        # the engine's own evidence tells what unsafe amounts need, and that follows from the largest contributions
        return Made(block, view, chain, shape[self.audience], self.norms.attackers)

    def _lowest(self, block: Block) -> dict[str, Level]:
        return {part.mart: self.ready[part.mart].lowest for part in block.parts}

    def _grounds(
        self, chain: Chain, block: Block, counts: Block, steps: Mapping[Audience, View]
    ) -> dict[Audience, dict[str, dict[str, str]]]:
        """Per audience what `Version.covers` compares of amounts: with all that decides what may be shown of them."""
        assert self.norms.bedragen is not None
        plain = shapes(block, self._lowest(block))
        rules = amount_policy(self.norms.bedragen, chain.least_shown(self.audience)[0]).model_dump_json()
        behind = [column.tolist() for part in block.parts for _, column in sorted(part.columns.items())]
        found = {}
        for who in steps:
            hidden = [rows.tolist() for rows in Counted(counts, steps).hidden(block, who)]
            told = (rules, self.norms.bedragen, self.norms.aanvaller.vermoedt_klein, behind, hidden)
            found[who] = {mart: one | {"grond": self.seal.ground(mart, *told)} for mart, one in plain.items()}
        return found

    def _taken(
        self, chain: Chain, block: Block, shape: Mapping[Audience, Mapping[str, Mapping[str, str]]]
    ) -> tuple[dict[Audience, View], Version | None]:
        """The views in the chain that were released before of the same figures, and the audience's own version."""
        taken: dict[Audience, View] = {}
        reused = None
        for who, own_norms in chain.steps(self.audience):
            for version in reversed(self.history.versions.get(who, {}).get(block.id, [])):
                # suppliers count in the first view alone, so no later one starts from a view that withstood fewer
                if who not in shape or (who != self.audience and version.aanvaller != self.norms.attackers):
                    continue
                if version.normen == chain.label and version.indeling == block.indeling and version.covers(shape[who]):
                    old = {part.mart: part.count for part in version.block(block).parts}
                    values = tuple(old[part.mart] for part in block.parts)
                    taken[who] = View(values, own_norms, chain.least_shown(who)[-1])
                    reused = version if who == self.audience else reused
                    break
        return taken, reused

    def _solved(
        self, block: Block, chain: Chain, taken: Mapping[Audience, View]
    ) -> tuple[dict[Audience, View], Mapping[str, Any]]:
        """The views of counts of all in the chain, and the engine's evidence for the last."""
        return views(
            block,
            chain,
            self.audience,
            self._knowledge(block, chain),
            taken,
            knows_own=self.norms.kent_eigen_cel,
            suspects=self.norms.aanvaller.vermoedt_klein,
            suppliers=own_records(block, self.ready),
            time_limit=self.norms.tijdslimiet_s,
        )

    def _readers(self, chain: Chain) -> dict[Audience, tuple[Audience, ...]]:
        """Per audience in the chain whose releases its readers know."""
        together = self.norms.aanvaller.partners
        return {who: chain.known_to(who, partners=together) for who, _ in chain.steps(self.audience)}

    def _knowledge(self, block: Block, chain: Chain) -> Knowledge:
        """What readers know of the counts of a block besides what they are shown of it now."""
        counts = {
            key[0]: float(count)
            for part in block.parts
            for key, count, is_total in zip(part.keys, part.count, part.is_total, strict=True)
            if is_total
        }
        told, sums = known_told(
            self.history,
            self._readers(chain),
            block,
            self.blocks[block.telling, block.periode],
            self.borders,
            self._fresh(block),
        )
        revision = None if self.norms.herziening_maximaal == "geen" else self.norms.herziening_maximaal
        return Knowledge(told, sums, public_figures(self.connection, CBS, block, counts), revision, self.overlaps)

    def _fresh(self, block: Block) -> list[Fresh]:
        """What this run shows anew of the same count and period in other municipalities."""
        found = []
        for made in self.made:
            other = made.block
            if (other.telling, other.periode) == (block.telling, block.periode) and made.reused is None:
                found.append(Fresh(self.audience, other.shown(made.view.values), made.view.norms, made.view.least))
        return found


def own_records(block: Block, ready: Mapping[str, Checked]) -> dict[str, list[Bools]]:
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
