"""What was refused is judged again from its encrypted original, once the contract was mended; all of it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from assets.deliveries import register
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import deliver, refused, rejudge
from assets.deliveries.retention import expire
from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import vault, warehouse
from quality.privacy.keys import ensure_key

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: klachten
name: Klachten
version: 1.0.0
status: active
team: {name: Dienstverlening}
customProperties:
  - {property: leverancier, value: Loket}
  - {property: layout, value: {formaat: gescheiden, scheiding: ";", codering: utf-8}}
  - {property: periode, value: {soort: jaar, bestandsnaam: '^klachten_(?P<jaar>\\d{4})\\.csv$'}}
  - {property: correctie, value: vervangt_periode}
  - {property: max_foutaandeel, value: 0.3}
  - property: doelen
    value:
      klachten:
        kolommen:
          zaak_pseudoniem: {bewerking: pseudoniem, van: nummer, soort: zaak}
          soort: {van: soort}
schema:
  - name: klachten
    properties:
      - {name: nummer, logicalType: string, required: true, primaryKey: true, classification: administratief_nummer}
      - name: soort
        logicalType: string
        classification: open
        customProperties: [{property: codes, value: {A: afval, B: bomen}}]
"""

POLICY = {
    "versie": "1",
    "doelen": {
        "klachten": {
            "omschrijving": "Klachten per soort", "grondslag": "Gemeentewet 108", "verwerkingsactiviteit": "VA-1",
            "leveringen": ["klachten"], "bewaartermijn_maanden": 1200,
        }
    },
    "leveringen": {"klachten": {"bewaartermijn_maanden": 1200}},
}  # fmt: skip


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A factory with one delivery of complaints, and a file of which half has a code that nobody agreed on."""
    for folder in ("contracts", "policy"):
        (tmp_path / folder).mkdir()
    (tmp_path / "contracts" / "klachten.yaml").write_text(CONTRACT)
    (tmp_path / "policy" / "doelen.yaml").write_text(yaml.safe_dump(POLICY))
    source = tmp_path / "factory.yaml"
    source.write_text(
        "name: Proef\nsample: true\nhome: home\nregion: {gemeenten: [GM0518], provincie: PV28}\n"
        "deliveries: {klachten: }\n"
    )
    monkeypatch.setenv(FACTORY_ENV, str(source))
    _write(tmp_path / "klachten_2024.csv", 5, 5)
    return load_settings(source)


def _write(path: Path, good: int, unknown: int) -> Path:
    rows = [f"Z{number:06};{'A' if number < good else 'C'}" for number in range(good + unknown)]
    path.write_text("\n".join(["nummer;soort", *rows]) + "\n")
    return path


def _mend(settings: Settings, old: str = "B: bomen", new: str = "B: bomen, C: cafés") -> None:
    path = settings.source.parent / "contracts" / "klachten.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _rows(settings: Settings) -> int:
    with warehouse(settings.paths, settings.resources) as con:
        row = con.execute("SELECT count(*) FROM raw_klachten.klachten").fetchone()
    return int(row[0]) if row else -1


def test_a_mended_code_list_lets_a_refused_delivery_in(factory: Settings) -> None:
    run = CliRunner()
    path = factory.source.parent / "klachten_2024.csv"
    first = run.invoke(app, ["intake", "deliver", str(path), "--contract", "klachten"])
    assert first.exit_code == 1
    path.unlink()  # the original in the vault is all there is
    (entry,) = refused(factory, ensure_key(factory.paths))
    listed = run.invoke(app, ["intake", "rejudge"])
    assert entry.levering_id in listed.output
    assert "5 of 10 rows are refused" in listed.output
    assert run.invoke(app, ["intake", "rejudge", entry.levering_id]).exit_code == 1  # nothing was mended yet
    _mend(factory)
    done = run.invoke(app, ["intake", "rejudge", entry.levering_id])
    assert done.exit_code == 0, done.output
    assert _rows(factory) == 10
    assert refused(factory, ensure_key(factory.paths)) == []
    told = [event.payload for event in Ledger(factory.paths.ledger).events("rejudgement", "klachten")]
    assert [(one["before"], one["after"]) for one in told] == [("geweigerd", "geweigerd"), ("geweigerd", "ontvangen")]
    assert all(one["who"] and one["contract"] == "klachten 1.0.0" for one in told)
    with vault(factory.paths, factory.resources, ensure_key(factory.paths).vault) as con:
        (now,) = register.entries(con, "klachten")
    assert now.ontvangen_op == entry.ontvangen_op  # a correction that came later still supersedes it
    with pytest.raises(DeliveryError, match="no delivery"):
        rejudge(factory, entry.levering_id, "test")


def test_rows_that_were_refused_come_in_and_none_comes_twice(factory: Settings) -> None:
    path = _write(factory.source.parent / "klachten_2023.csv", 8, 2)
    assert deliver(factory, path, "klachten").refused == 2
    (entry,) = refused(factory, ensure_key(factory.paths))
    _mend(factory)
    outcome = rejudge(factory, entry.levering_id, "test")
    assert (outcome.delivered, outcome.accepted, outcome.refused) == (10, 10, 0)
    with vault(factory.paths, factory.resources, ensure_key(factory.paths).vault) as con:
        counts = con.execute(
            "SELECT (SELECT count(*) FROM vault.aanvoer.klachten), (SELECT count(*) FROM vault.quarantaine.klachten)"
        ).fetchone()
        assert len(register.entries(con, "klachten")) == 1
    assert counts == (10, 0)


def test_what_was_taken_in_is_not_lost_by_a_stricter_contract(factory: Settings) -> None:
    path = _write(factory.source.parent / "klachten_2023.csv", 8, 2)
    assert deliver(factory, path, "klachten").accepted == 8
    (entry,) = refused(factory, ensure_key(factory.paths))
    _mend(factory, "value: 0.3", "value: 0.1")
    with pytest.raises(DeliveryError, match="more than the agreed 10%"):
        rejudge(factory, entry.levering_id, "test")
    (still,) = refused(factory, ensure_key(factory.paths))
    assert (still.status, still.geaccepteerd) == ("ontvangen", 8)


def test_a_period_that_could_not_be_told_is_given_and_leaves_no_second_line(factory: Settings) -> None:
    path = _write(factory.source.parent / "uitdraai.csv", 8, 0)
    assert "does not say which jaar" in (deliver(factory, path, "klachten").reason or "")
    (entry,) = refused(factory, ensure_key(factory.paths))
    outcome = rejudge(factory, entry.levering_id, "test", "2022")
    assert (outcome.status, outcome.period) == ("ontvangen", "2022")
    with vault(factory.paths, factory.resources, ensure_key(factory.paths).vault) as con:
        assert [one.periode for one in register.entries(con, "klachten")] == ["2022"]


def test_what_is_past_its_term_is_not_judged_again(factory: Settings) -> None:
    deliver(factory, factory.source.parent / "klachten_2024.csv", "klachten")
    (entry,) = refused(factory, ensure_key(factory.paths))
    policy = {**POLICY, "leveringen": {"klachten": {"bewaartermijn_maanden": 1}}}
    (factory.source.parent / "policy" / "doelen.yaml").write_text(yaml.safe_dump(policy))
    with pytest.raises(DeliveryError, match="retention term of 2024 ended"):
        rejudge(factory, entry.levering_id, "test")
    expire(factory, ensure_key(factory.paths))
    assert refused(factory, ensure_key(factory.paths)) == []


def test_a_source_that_balloons_is_refused_until_someone_agrees(factory: Settings) -> None:
    folder = factory.source.parent
    assert deliver(factory, _write(folder / "klachten_2021.csv", 1_000, 0), "klachten").status == "ontvangen"
    outcome = deliver(factory, _write(folder / "klachten_2022.csv", 10_001, 0), "klachten")
    assert outcome.status == "geweigerd"
    assert "over 10 times the 1000 of the largest" in (outcome.reason or "")
    _mend(factory, "value: 0.3}", "value: 0.3}\n  - {property: groei, value: 20}")
    (entry,) = refused(factory, ensure_key(factory.paths))
    assert rejudge(factory, entry.levering_id, "test").accepted == 10_001
