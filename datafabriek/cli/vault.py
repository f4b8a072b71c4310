"""`datafabriek vault`: a look at what was refused, for whoever may, and in the ledger."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="The encrypted vault: refused rows, shown with a reason that is kept.")
    group.callback()(_group)
    group.command("show")(show)
    app.add_typer(group, name="vault", no_args_is_help=True)


def _group() -> None:
    """The encrypted vault: refused rows, shown with a reason that is kept."""


def show(
    delivery: Annotated[str, typer.Argument(help="The delivery, as factory.yaml names it.")],
    reason: Annotated[str, typer.Option(help="Why you must see personal data; it stands in the ledger for good.")],
    period: Annotated[str | None, typer.Option(help="Only of this period.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many rows.")] = 20,
) -> None:
    """Show refused rows as they were delivered: personal data, so the look itself is recorded before it is given."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from assets.deliveries.delivered import DeliveryError
    from assets.deliveries.intake import contract_of
    from assets.deliveries.register import refused_rows
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.warehouse import vault
    from quality.privacy.keys import load_key

    if len(reason.strip()) < 10:
        raise DeliveryError("--reason says why, in at least ten characters: it is what you answer for later")
    settings = load_settings()
    contract_of(settings, delivery)
    key = load_key(settings.paths)
    payload = {
        "delivery": delivery,
        "period": period,
        "reason": reason.strip(),
        "who": getpass.getuser(),
        "limit": limit,
    }
    Ledger(settings.paths.ledger).append("vault_access", delivery, payload)
    with vault(settings.paths, settings.resources, key.vault) as con:
        rows = refused_rows(con, delivery, period, limit)
    table = Table(title=f"Refused rows of {delivery}", title_justify="left")
    for heading in ("period", "line", "rules", "as delivered"):
        table.add_column(heading, overflow="fold")  # whoever looks must see the value that broke the rule
    for found_period, line, rules, record in rows:
        table.add_row(found_period, str(line), ", ".join(rules), escape(record))
    Console().print(table)
