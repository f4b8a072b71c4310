"""`datafabriek key`: the master key of the vault and the pseudonyms, backed up and restored."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

PASSPHRASE_ENV = "DATAFABRIEK_BACKUP_PASSPHRASE"  # noqa: S105 - the variable's name, not a secret


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="The master key: without it the vault cannot be opened; with it pseudonyms can be undone.")
    group.command("status")(status)
    group.command("backup")(backup)
    group.command("restore")(restore)
    group.command("rotate")(rotate)
    app.add_typer(group, name="key", no_args_is_help=True)


def status(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, and nothing else.")] = False) -> None:
    """Where the key comes from, whether it opens the vault, and when it was last backed up."""
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.warehouse import vault
    from quality.privacy.keys import load_key, vault_exists

    settings = load_settings()
    home = settings.paths
    exists = vault_exists(home)
    key = load_key(home)
    opens = None
    if home.vault_database.exists():
        with vault(home, settings.resources, key.vault):
            opens = True
    backups = [e for e in Ledger(home.ledger).events("key", key.id) if e.payload.get("action") == "backup"]
    told = {
        "key": key.id,
        "origin": key.origin,
        "vault_exists": exists,
        "opens_vault": opens,
        "last_backup": backups[-1].at if backups else None,
    }
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(f"key {key.id} from {key.origin}")
    typer.echo("it opens the vault" if opens else "there is no vault yet")
    typer.echo(
        f"last backup: {told['last_backup']}" if backups else "never backed up: run `datafabriek key backup FILE`"
    )


def backup(
    file: Annotated[Path, typer.Argument(help="A new file, preferably on another medium than the vault.")],
    recipient: Annotated[
        str | None, typer.Option(help="Age public key (age1…) or ssh public key that may open it; else a passphrase.")
    ] = None,
) -> None:
    """Write the key, encrypted, to a file. The passphrase is asked for, or read from DATAFABRIEK_BACKUP_PASSPHRASE."""
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from quality.privacy import keys

    home = load_settings().paths
    key = keys.load_key(home)
    passphrase = None
    if recipient is None:
        passphrase = _passphrase("Passphrase (at least 12 characters)", "--recipient", twice=True)
    keys.backup(key, file, passphrase=passphrase, recipient=recipient)
    how = "recipient" if recipient else "passphrase"
    Ledger(home.ledger).append("key", key.id, {"action": "backup", "with": how})
    typer.echo(f"key {key.id} is in {file}: keep it, and what opens it, apart from the vault")


def restore(
    file: Annotated[Path, typer.Argument(help="A backup made by `key backup`.")],
    identity: Annotated[
        Path | None,
        typer.Option(help="File with the age identity or ssh private key that opens it; else a passphrase."),
    ] = None,
) -> None:
    """Put a backed-up key back. It must open the vault that exists; another key is never overwritten."""
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.locking import factory_lock
    from quality.privacy import keys

    settings = load_settings()
    home = settings.paths
    passphrase = None
    if identity is None:
        if not file.is_file():
            raise keys.BackupError(f"{file} is no file: name a backup made by `key backup`")
        passphrase = _passphrase("Passphrase", "--identity")
    key = keys.open_backup(file, passphrase=passphrase, identity=identity)
    with factory_lock(home.lock, "key restore"):
        keys.restore(home, key)
        Ledger(home.ledger).append("key", key.id, {"action": "restore"})
    typer.echo(f"key {key.id} is back in {home.key_file}")


def rotate(
    purpose: Annotated[str, typer.Argument(help="Whose pseudonyms get a new key: a purpose, or koppeling_<naam>.")],
) -> None:
    """Give the tables of a purpose or linkage pseudonyms under the key version that policy names; needs no delivery.

    Raise `sleutelversie` in doelen.yaml or koppelingen.yaml first. Old pseudonyms stand in no file afterwards.
    """
    from assets.deliveries.linking import link
    from assets.deliveries.purposes import derive, in_order
    from assets.deliveries.retention import drop_persons_between
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.locking import factory_lock
    from datafabriek.warehouse import rewrite_warehouse, warehouse
    from quality.privacy.keys import load_key
    from quality.privacy.linkages import LINKED, load_linkages
    from quality.privacy.policy import PolicyError, load_policy

    settings = load_settings()
    home = settings.paths
    key = load_key(home)
    linkages = {linkage.schema_name: linkage for linkage in load_linkages(settings)}
    settled = linkages.get(purpose) or load_policy(settings).doelen.get(purpose)
    if settled is None:
        known = ", ".join([*load_policy(settings).doelen, *linkages])
        raise PolicyError(f"policy names no purpose and no linkage `{purpose}` (it names: {known})")
    with factory_lock(home.lock, "key rotate"):
        if purpose in linkages:
            made = [link(settings, key, table) for table in linkages[purpose].tables]
        else:
            made = [derive(settings, key, name, each.name) for name, each in in_order(settings) if each.name == purpose]
        if not any(table.renewed for table in made):
            where = "koppelingen.yaml" if purpose.startswith(LINKED) else "doelen.yaml"
            raise PolicyError(
                f"all tables of {purpose} have key version {settled.sleutelversie} already: raise `sleutelversie` in "
                f"{where} first, and have it approved"
            )
        with warehouse(home, settings.resources) as con:
            drop_persons_between(con)
        for linkage in linkages.values():  # their tables follow from those of the purposes
            for table in linkage.tables if linkage.in_force() else ():
                link(settings, key, table)
        rewrite_warehouse(home, settings.resources)
        payload = {"action": "rotate", "purpose": purpose, "version": settled.sleutelversie}
        Ledger(home.ledger).append("key", key.id, payload)
    rows = sum(table.rows for table in made)
    typer.echo(
        f"{rows} rows of {purpose} have key version {settled.sleutelversie}; the models follow with the next run"
    )


def _passphrase(prompt: str, instead: str, *, twice: bool = False) -> str:
    """From the environment, else asked for; without a terminal nothing is asked that would be shown or never come.

    Raises:
        BackupError: neither can be; the message names the variable, and the option that goes without.
    """
    from quality.privacy.keys import BackupError

    given = os.environ.get(PASSPHRASE_ENV)
    if given:
        return given
    if not sys.stdin.isatty():
        raise BackupError(f"there is no terminal to ask a passphrase on: set {PASSPHRASE_ENV}, or give {instead}")
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice))
