"""A person is found everywhere she stands, is taken out of all of it, and does not come back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from assets.deliveries.erasure import erase, find, number_columns, parse_bsn
from assets.deliveries.intake import original, take_inbox
from assets.deliveries.layouts import DeliveryError
from assets.deliveries.purposes import derive
from datafabriek.cli import app
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.sample.deliveries import Manifest
from datafabriek.warehouse import vault, warehouse
from quality.contracts.model import load
from quality.privacy.keys import ensure_key
from quality.privacy.pseudonyms import KINDS, pseudonymise

BSN, NAME = "000990012", "Wiswegstra"
assert parse_bsn("990012") == BSN


def _insert(path: Path, *lines: str) -> None:
    head, _, tail = path.read_bytes().partition(b"\n")
    path.write_bytes(head + b"\n" + "".join(f"{line}\n" for line in lines).encode() + tail)


def _line(name: str, **values: str) -> str:
    return ";".join(values.get(column, "") for column in load(name).names)


def _seed(inbox: Path) -> None:
    person = {"geslachtsnaam": NAME, "gemeente_code": "0518", "huishoudnummer": "H1"}
    _insert(
        inbox / "brp" / "brp_20201231.csv",
        _line("brp", bsn="990012", datum_aanvang_adres="20200115", **person),  # zeros in front lost
        _line("brp", bsn=BSN, datum_aanvang_adres="geen datum", **person),  # refused
    )
    company = {
        "peildatum": "20200101", "kvknummer": "87654321", "handelsnaam": NAME, "indicatie_zzp": "J",
        "gemeente_code": "0518", "sbi_code": "6201", "vestigingsnummer": "000087654321",
    }  # fmt: skip
    path = inbox / "bedrijven" / "bedrijven_20200101.csv"
    _insert(path, _line("bedrijven", eigenaar_bsn=BSN, **company))
    bus = inbox / "bus" / "BUS_202001.txt"
    first, _, rest = bus.read_bytes().partition(b"\n")
    place = sum(column.width or 0 for column in load("bus").columns[: load("bus").names.index("bsn")])
    bus.write_bytes(first[:place] + BSN.encode() + first[place + 9 :] + b"\n" + rest)


def _run(settings: Settings) -> None:
    for name in settings.deliveries:
        take_inbox(settings, name)
    for name in settings.deliveries:
        for purpose in load(name).purposes:
            derive(settings, ensure_key(settings.paths), name, purpose)


@pytest.fixture
def seeded(filled: Settings) -> Settings:
    _seed(filled.paths.inbox)
    _run(filled)
    return filled


@pytest.mark.parametrize("text", ["123456789", "", "12345678x", "1234567890", "0"])
def test_what_is_no_bsn_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(DeliveryError) as told:
        parse_bsn(text)
    assert not text or text not in str(told.value)


def test_the_contracts_say_where_numbers_stand() -> None:
    assert number_columns(load("brp")) == ["bsn"]
    assert number_columns(load("bedrijven")) == ["eigenaar_bsn"]
    assert "bsn" in number_columns(load("bus"))
    assert number_columns(load("adressen")) == []


def test_she_is_found_wherever_she_stands(seeded: Settings) -> None:
    found = find(seeded, ensure_key(seeded.paths), BSN)
    places = {(place.place, place.delivery) for place in found}
    assert places >= {
        ("kluis", "brp"), ("quarantaine", "brp"), ("kluis", "bedrijven"), ("kluis", "bus"), ("origineel", "brp"),
        ("origineel", "bedrijven"), ("origineel", "bus"), ("raw_bijstand.brp", "brp"), ("raw_zzp.brp", "brp"),
        ("raw_bijstand.bus", "bus"), ("raw_zzp.bedrijven", "bedrijven"),
    }  # fmt: skip
    assert find(seeded, ensure_key(seeded.paths), "111222333") == []


def test_she_is_gone_from_everything_and_does_not_come_back(seeded: Settings, delivered: tuple[Path, Manifest]) -> None:
    key = ensure_key(seeded.paths)
    with warehouse(seeded.paths, seeded.resources) as con:
        before = con.execute("SELECT count(*) FROM raw_zzp.brp").fetchone()
    assert erase(seeded, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg")
    assert find(seeded, key, BSN) == []
    (event,) = Ledger(seeded.paths.ledger).events("erasure")
    assert event.payload["ground"].startswith("AVG 17")
    assert BSN not in str(event)
    for path in seeded.paths.originals.iterdir():
        data = original(seeded.paths, key, path.stem)
        assert NAME.encode() not in data
        assert BSN.encode() not in data
    pseudonym = pseudonymise(pa.array([BSN]), KINDS["bsn"], key.purpose("zzp")).storage[0]
    raw = pseudonym.as_py()
    stored = (bytes([raw[0] ^ 0x80]) + raw[1:])[::-1]
    assert stored not in seeded.paths.warehouse.read_bytes()
    with warehouse(seeded.paths, seeded.resources) as con:
        after = con.execute("SELECT count(*) FROM raw_zzp.brp").fetchone()
    assert before is not None
    assert after == (before[0] - 1,)

    shutil.copytree(delivered[0], seeded.paths.inbox, dirs_exist_ok=True)
    again = seeded.paths.inbox / "brp" / "brp_20201231.csv"
    _seed(seeded.paths.inbox)
    again.rename(again.with_name("brp_20210131.csv"))  # the next full delivery
    (outcome,) = take_inbox(seeded, "brp")
    assert outcome.status == "ontvangen"
    assert outcome.delivered == outcome.accepted + outcome.refused
    (told,) = [finding for finding in outcome.findings if finding["rule"] == "gewist"]
    assert (told["count"], told["lines"], told["examples"]) == (1, [], [])
    _run(seeded)
    assert find(seeded, key, BSN) == []
    for path in seeded.paths.originals.iterdir():
        assert NAME.encode() not in original(seeded.paths, key, path.stem)
    with vault(seeded.paths, seeded.resources, key.vault) as con:
        known = con.execute("SELECT * FROM vault.beheer.gewist").fetchall()
    assert len(known) == 1
    assert BSN not in str(known)


def test_the_commands_ask_for_a_reason_and_take_no_number_as_an_argument(
    seeded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CliRunner()
    found = run.invoke(app, ["privacy", "find", "--reason", "verzoek om inzage 2026-3"], input=f"{BSN}\n")
    assert found.exit_code == 0, found.output
    assert "raw_zzp.brp" in found.output
    assert BSN not in found.output
    assert Ledger(seeded.paths.ledger).events("vault_access")[-1].payload["reason"] == "verzoek om inzage 2026-3"
    gone = run.invoke(app, ["privacy", "erase", "--ground", "AVG 17, besluit 2026-3", "--yes"], input=f"{BSN}\n")
    assert gone.exit_code == 0, gone.output
    assert "Archiefwet" in gone.output
    assert run.invoke(app, ["privacy", "find", "--reason", "nog een keer zien"], input=f"{BSN}\n").exit_code == 0
    assert find(seeded, ensure_key(seeded.paths), BSN) == []
