"""What a delivery is held to besides itself: what it refers to is there, and no record of it was added before.

A benefit's person stands in the BRP, a start in its grant: a contract names such relations (`relationships` of ODCS).
And where deliveries add up (`correctie: toevoegen`) a key of an earlier one comes no second time. Both are judged when
a delivery is taken in, against what the vault holds at that moment, and when a file is checked where the vault can be
read. A factory that does not name the other delivery has nothing to hold a relation to.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import duckdb
import polars as pl

from assets.deliveries import register
from assets.deliveries.judging import Keys, Tally, hashed, key_hashes
from assets.deliveries.register import DELIVERY, RECEIVED
from assets.deliveries.superseding import counting
from datafabriek.config import Settings
from datafabriek.warehouse import quoted
from quality.contracts.model import Contract, ContractError, Relation, load
from quality.schemas.deliveries import typed

_BATCH = 20_000


@dataclass(frozen=True)
class _Known:
    """A relation and the values that stand on its other side, as hashes; None where nothing stands there yet."""

    relation: Relation
    there: pl.Series | None


class Related:
    """What other deliveries hold, as the vault has them now, that a delivery is held to.

    `keys` are those of the same kind that count, where all of them do (`correctie: toevoegen`): a record that came
    in one and comes again would count twice. None where that cannot be.

    Values are kept as 64 bits of hash, 8 bytes each: that one that is not there passes for one that is, is to be
    expected in fewer than one of a million deliveries of five million rows.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, name: str, own: Collection[str]
    ) -> None:
        """Read them.

        Args:
            con: the vault.
            settings: the factory.
            contract: what was agreed.
            name: what the factory calls the delivery.
            own: ids under which the file that is to be judged may stand in the vault itself.
        """
        self.keys = _keys(con, contract, name, own) if contract.correction == "toevoegen" and contract.key else None
        self._known = [
            _Known(relation, _standing(con, settings, relation))
            for relation in contract.relations
            if relation.delivery in settings.deliveries
        ]

    def broken(self, frame: pl.DataFrame, good: pl.Series) -> pl.DataFrame:
        """Rows that refer to what is not there, as findings (`index`, `kolom`, `regel`); a null refers to nothing.

        Args:
            frame: repaired text, some of it coded.
            good: per row whether it broke no rule of its own; of the others nothing is said.
        """
        found = [pl.DataFrame(schema={"index": pl.UInt32, "kolom": pl.String, "regel": pl.String})]
        for known in self._known:
            if known.there is None:
                continue
            relation = known.relation
            lost = ~hashed(frame, relation.columns, 0).is_in(known.there.implode())
            refers = frame.select(pl.all_horizontal(pl.col(relation.columns).is_not_null())).to_series()
            index = (lost & refers & good).arg_true()
            found.append(
                pl.DataFrame({"index": index}, schema={"index": pl.UInt32}).with_columns(
                    kolom=pl.lit(relation.columns[0]), regel=pl.lit(relation.rule)
                )
            )
        return pl.concat(found)

    def tell_unjudged(self, tally: Tally) -> None:
        """Say of relations to what is not there yet that no row was held to them."""
        for known in self._known:
            if known.there is None and tally.delivered:
                tally.add(known.relation.columns[0], f"{known.relation.rule}_niet_getoetst", "warning", tally.delivered)


def _standing(con: duckdb.DuckDBPyConnection, settings: Settings, relation: Relation) -> pl.Series | None:
    name = relation.delivery
    other = load(settings.deliveries[name].contract or name, settings.contract_folders)
    if missing := [column for column in relation.to if column not in other.names or other[column].type != "string"]:
        raise ContractError(
            f"{other.source}: another contract refers to {', '.join(missing)}: no text column of {name}"
        )
    in_use = [each for each in register.current(register.entries(con, name), other) if each.status == RECEIVED]
    if not in_use:
        return None
    columns = ", ".join(quoted(column) for column in relation.to)
    query = f"SELECT {columns} FROM {counting(other, name)} WHERE {DELIVERY} IN (SELECT unnest(?))"
    reader = con.execute(query, [[entry.levering_id for entry in in_use]]).to_arrow_reader(_BATCH)
    found = [hashed(pl.DataFrame(batch), relation.to, 0) for batch in reader]
    return pl.concat([pl.Series(dtype=pl.UInt64), *found]).unique()


def _keys(con: duckdb.DuckDBPyConnection, contract: Contract, name: str, own: Collection[str]) -> Keys:
    """The keys of all records of a kind that count, those of one file left out."""
    keys = Keys()
    others = [e.levering_id for e in register.entries(con, name) if e.status == RECEIVED and e.levering_id not in own]
    if not others:
        return keys
    columns = [contract[key] for key in contract.key]
    types = typed(pl.DataFrame(schema=dict.fromkeys(contract.key, pl.String)), columns).schema
    named = ", ".join(map(quoted, contract.key))
    query = f"SELECT {named} FROM {register.table(name)} WHERE {DELIVERY} IN (SELECT unnest(?))"
    for batch in con.execute(query, [others]).to_arrow_reader(_BATCH):
        keys.repeated(*key_hashes(pl.DataFrame(batch).cast(types), contract))
    return keys
