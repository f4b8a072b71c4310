"""`datafabriek init`: a factory of one's own, with what only the organisation can fill in left open."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from datafabriek.errors import FactoryError

TEMPLATES = Path(__file__).parents[1] / "templates"


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    gemeente: Annotated[list[str] | None, typer.Option(help="Code as CBS writes it (GM0518); may be repeated.")] = None,
    provincie: Annotated[str, typer.Option(help="Code as CBS writes it (PV28).")] = "",
    name: Annotated[str, typer.Option(help="What the factory is called in reports and alerts.")] = "",
) -> None:
    """Make a factory of your own: factory.yaml, policy, contracts and models to fill in."""
    from rich.console import Console

    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _refused(f"{folder} is not empty: name a new folder, so that nothing is overwritten")
    codes = [_code(item, "GM", 4, "--gemeente") for item in gemeente or _ask("Gemeente (GM0518)", "--gemeente").split()]
    province = _code(provincie or _ask("Provincie (PV28)", "--provincie"), "PV", 2, "--provincie")
    title = name or (_ask("Naam", "--name") if sys.stdin.isatty() else f"Datafabriek {', '.join(codes)}")
    make(folder, title, codes, province)
    console = Console()
    console.print(f"made {folder}", highlight=False, soft_wrap=True)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            console.print(f"  {path.relative_to(folder)}", highlight=False)
    program = "datafabriek" if shutil.which("datafabriek") else Path(sys.executable).with_name("datafabriek")
    told = f"next: fill in policy/ as README.md says, then `cd {folder} && {program} run`"
    console.print(told, highlight=False, soft_wrap=True)


def make(folder: Path, name: str, gemeenten: list[str], provincie: str) -> None:
    """Write the files of a new factory."""
    import jinja2

    from quality.contracts import model
    from quality.repairs import RULES

    loader = jinja2.FileSystemLoader(TEMPLATES)
    # YAML, Markdown: nothing here is HTML
    environment = jinja2.Environment(loader=loader, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    facts = {
        "name": name,
        "gemeenten": gemeenten,
        "provincie": provincie,
        # what a contract may say, from what reads it
        "formaten": model.FORMATS,
        "perioden": list(model.PERIODS),
        "correcties": model.CORRECTIONS,
        "klassen": model.PRIVACY_CLASSES,
        "typen": model.TYPES,
        "bewerkingen": list(model.DERIVATIONS),
        "herstel": {rule: RULES[rule].told for rule in RULES},
        "meegeleverd": model.SHIPPED,
    }
    for template in environment.list_templates(extensions=["j2"]):
        path = folder / template.removesuffix(".j2")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(template).render(facts), encoding="utf-8")


def _ask(question: str, option: str) -> str:
    if not sys.stdin.isatty():
        raise _refused(f"{option} is missing: give it, as in `datafabriek init DIR --gemeente GM0518 --provincie PV28`")
    answer: str = typer.prompt(question)
    return answer


def _code(given: str, prefix: str, digits: int, option: str) -> str:
    """A region code in CBS's form; 518 and gm0518 mean GM0518, GM05 nothing."""
    number = re.fullmatch(rf"{prefix}(\d{{{digits}}})|(\d{{1,{digits}}})", given.strip(), flags=re.IGNORECASE)
    if number is None:
        example = f"{prefix}{'0518'[-digits:] if prefix == 'GM' else '28'}"
        raise _refused(f"{option} {given!r} is no region code: expected {prefix} and {digits} digits, as in {example}")
    return f"{prefix}{(number[1] or number[2]).zfill(digits)}"


def _refused(message: str) -> FactoryError:
    from datafabriek.config import ConfigError  # takes a fifth of a second, which every command would wait for

    return ConfigError(message)
