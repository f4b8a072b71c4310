"""Beside the op-orde report: which rows were refused, by the supplier's own record key, for that supplier's eyes alone.

The key of a record identifies a person, so the list is written only where doelen.yaml gives a public age key of the
supplier (`leveringen.<name>.sleutel_leverancier`), encrypted to it: who passes it on cannot read it.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb

from assets.deliveries import register
from assets.deliveries.delivered import LINE
from assets.deliveries.register import DELIVERY, Entry
from quality.contracts.model import Contract
from quality.formulas import neutral
from quality.privacy.policy import PolicyError

SUFFIX = ".regels.age"

MOST = 100_000  # rows: whoever got more wrong mends the cause


def write(
    con: duckdb.DuckDBPyConnection, entry: Entry, contract: Contract, recipient: str | None, folder: Path
) -> Path | None:
    """Write the refused rows of a delivery as CSV (`;`), encrypted; None where there is no key or no such row.

    Args:
        con: a connection with the vault.
        entry: the delivery.
        contract: says which columns are the record's key.
        recipient: the supplier's public age key (age1…).
        folder: where the op-orde report stands.

    Raises:
        PolicyError: the key is none.
    """
    import pyrage

    if recipient is None:
        return None
    try:
        sealed_to = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise PolicyError(
            f"`leveringen.{entry.levering}.sleutel_leverancier` in doelen.yaml is no age public key (age1…)"
        ) from None
    # an emptied record is that of an erased person: nobody is told of her
    query = f"""SELECT {LINE}, regels, record FROM {register.quarantine(entry.levering)}
        WHERE {DELIVERY} = ? AND record <> '' ORDER BY {LINE} LIMIT {MOST}"""
    rows = con.execute(query, [entry.levering_id]).fetchall() if register.holds_refused(con, entry.levering) else []
    if not rows:
        return None
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    writer.writerow(["rij", *contract.key, "controles"])
    for line, rules, record in rows:
        writer.writerow([line, *_key(record, contract), " ".join(rules)])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{entry.levering_id}{SUFFIX}"
    path.write_bytes(pyrage.encrypt(out.getvalue().encode(), [sealed_to]))
    return path


def _key(record: str, contract: Contract) -> list[str]:
    """The record's key as it was delivered; empty where the line could not be taken apart."""
    try:
        found = json.loads(record)
        return [neutral(str(found.get(name) or "")) for name in contract.key]
    except (ValueError, AttributeError):
        return ["" for _ in contract.key]
