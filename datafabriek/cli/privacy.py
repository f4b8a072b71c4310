"""`datafabriek privacy`: what the privacy officer asks of the factory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="For the privacy officer: what is done with which personal data, on what ground.")
    group.callback()(_group)
    group.command("register")(activities)
    app.add_typer(group, name="privacy", no_args_is_help=True)


def _group() -> None:
    """For the privacy officer: what is done with which personal data, on what ground."""


def activities(
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page to print.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as CSV.")] = None,
) -> None:
    """The register of processing activities (AVG 30), from contracts and policy; printed where no file is named."""
    from rich.console import Console
    from rich.table import Table

    from datafabriek.config import load_settings
    from quality.privacy.policy import load_policy
    from quality.privacy.processing import as_csv, as_html
    from quality.privacy.processing import register as made

    settings = load_settings()
    found = made(settings)
    if html is not None:
        html.write_text(as_html(found, settings.name, example=load_policy(settings).voorbeeld), encoding="utf-8")
    if csv is not None:
        csv.write_text(as_csv(found), encoding="utf-8")
    if html is None and csv is None:
        table = Table(title="Register van verwerkingsactiviteiten (AVG 30)", title_justify="left")
        for heading in ("nummer", "doel", "levering", "leverancier", "grondslag", "kluis (mnd)", "doel (mnd)"):
            table.add_column(heading)
        for one in found:
            terms = (str(one.bewaartermijn_kluis_maanden), str(one.bewaartermijn_doel_maanden))
            table.add_row(one.verwerkingsactiviteit, one.doel, one.levering, one.leverancier, one.grondslag, *terms)
        Console().print(table)
