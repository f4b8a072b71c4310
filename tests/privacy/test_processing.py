"""The register of processing activities, and the look into the vault that is kept in the ledger."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, load_settings
from datafabriek.ledger import Ledger
from quality.privacy.policy import PolicyError
from quality.privacy.processing import as_csv, as_html, register


def test_every_purpose_of_every_delivery_stands_in_it() -> None:
    found = register(load_settings())
    assert {(a.doel, a.levering) for a in found} == {
        ("bijstand", "BRP-extract"), ("bijstand", "Bijstandsuitkeringenstatistiek (BUS)"),
        ("zzp", "BRP-extract"), ("zzp", "Extract uit het handelsregister"),
    }  # fmt: skip
    (whom,) = [a.gegevens_voor_het_doel for a in found if (a.doel, a.levering) == ("zzp", "BRP-extract")]
    assert whom.endswith("geldig_tot; alleen van wie in bedrijven voorkomt, op de peildata daarvan")
    rows = list(csv.DictReader(io.StringIO(as_csv(found)), delimiter=";"))
    assert len(rows) == len(found)
    assert all(all(row.values()) for row in rows)
    page = as_html(found, "Proef <b>", example=True)
    assert page.count("<section>") == len(found)
    assert "Proef &lt;b&gt;" in page
    assert "Voorbeeld" in page


def test_the_register_names_who_answers_for_it_whose_data_they_are_and_who_gets_what(tmp_path: Path) -> None:
    """What AVG 30, 1a, 1c, 1d and 1e ask; what the organisation did not say is told as lacking, with where."""
    one = next(activity for activity in register(load_settings()) if activity.doel == "zzp")
    assert "Voorbeeldgemeente" in one.verwerkingsverantwoordelijke
    assert one.betrokkenen == "Ondernemers zonder personeel."
    assert one.ontvangers == "van persoonsgegevens geen; van beveiligde cijfers: intern, open"
    assert one.doorgifte_naar_derde_landen == "geen door de fabriek"
    sample = load_settings().policy_folder
    (tmp_path / "policy").mkdir()
    text = (sample / "doelen.yaml").read_text()
    text = re.sub(r"^ *(betrokkenen|functionaris_gegevensbescherming):.*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "policy" / "doelen.yaml").write_text(text)
    (tmp_path / "factory.yaml").write_text(
        "name: Proef\nsample: true\npolicy: policy\nregion: {gemeenten: [GM0518], provincie: PV28}\n"
        "deliveries: {bedrijven: }\n"
    )
    (bare,) = register(load_settings(tmp_path / "factory.yaml"))
    assert bare.betrokkenen == "NIET INGEVULD: `betrokkenen` in doelen.yaml"
    assert "`functionaris_gegevensbescherming`" in bare.functionaris_gegevensbescherming
    assert bare.ontvangers.startswith("geen")


def test_a_formula_in_the_register_is_text_in_its_csv() -> None:
    (first, *_) = register(load_settings())
    (row,) = csv.DictReader(io.StringIO(as_csv([replace(first, grondslag="=HYPERLINK(A1)")])), delimiter=";")
    assert row["grondslag"] == "'=HYPERLINK(A1)"


def test_a_delivery_without_policy_leaves_no_register(tmp_path: Path) -> None:
    source = tmp_path / "factory.yaml"
    source.write_text("name: Proef\nregion: {gemeenten: [GM0518], provincie: PV28}\ndeliveries: {brp: }\n")
    with pytest.raises(PolicyError):
        register(load_settings(source))


def test_a_look_into_the_vault_needs_a_reason_and_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.deliveries.intake import deliver
    from datafabriek.sample.deliveries import write_deliveries

    policy = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy"
    source = tmp_path / "factory.yaml"
    source.write_text(
        "name: Proef\nsample: true\nhome: home\nregion: {gemeenten: [GM0518], provincie: PV28}\n"
        f"policy: {policy}\ndeliveries: {{bedrijven: }}\n"
    )
    monkeypatch.setenv(FACTORY_ENV, str(source))
    settings = load_settings()
    write_deliveries(tmp_path / "in", scale=0.01, kinds=["bedrijven"])
    deliver(settings, tmp_path / "in" / "bedrijven" / "bedrijven_20200101.csv", "bedrijven")
    run = CliRunner()
    assert run.invoke(app, ["vault", "show", "bedrijven"]).exit_code == 2
    assert run.invoke(app, ["vault", "show", "bedrijven", "--reason", "zomaar"]).exit_code == 1
    assert not Ledger(settings.paths.ledger).events("vault_access")
    seen = run.invoke(app, ["vault", "show", "bedrijven", "--reason", "vraag van de leverancier"])
    assert seen.exit_code == 0
    assert re.search("elfproef|sleutel|aantal_v", seen.output)
    event = Ledger(settings.paths.ledger).events("vault_access", "bedrijven")[0]
    assert event.payload["reason"] == "vraag van de leverancier"
