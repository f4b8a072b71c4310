"""The deliveries: the same bytes for a seed, the agreed layouts, and dirt that is exactly where the labels say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from assets.deliveries.delivered import LINE
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source
from datafabriek.cli import app
from datafabriek.cli.sample import SampleError
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.sample.deliveries import FILES, fill_inbox, write_deliveries
from quality.contracts.model import load

ALL = [(kind, name) for kind, files in FILES.items() for name in files]


def test_a_seed_settles_every_byte(small: Any, tmp_path: Path) -> None:
    again = write_deliveries(tmp_path / "again", scale=small.manifest.scale)
    assert again.files == small.manifest.files
    assert again.labels.equals(small.manifest.labels)
    other = write_deliveries(tmp_path / "other", seed=1, scale=small.manifest.scale)
    assert {f.sha256 for f in other.files}.isdisjoint(f.sha256 for f in small.manifest.files)


def test_one_month_is_not_delivered(small: Any) -> None:
    months = sorted(path.name[8:10] for path in (small.folder / "bus").iterdir())
    assert len(months) == 11
    assert "08" not in months


def test_only_deliveries_lie_there(small: Any) -> None:
    found = sorted(str(path.relative_to(small.folder)) for path in small.folder.rglob("*") if path.is_file())
    assert found == sorted(f"{kind}/{name}" for kind, name in ALL)


def test_bus_records_have_one_width(small: Any) -> None:
    lines = small.path("BUS_202002.txt").read_bytes().decode("cp1252").split("\r\n")
    width = sum(column.width or 0 for column in load("bus").columns)
    labelled = small.manifest.labels.filter(bestand="BUS_202002.txt")["regel"].to_list()
    clean = [line for number, line in enumerate(lines[:-1], 1) if number not in labelled]
    assert {len(line) for line in clean} == {width}


def test_the_register_is_written_in_cp1252(small: Any) -> None:
    body = small.path("bedrijven_20200101.csv").read_bytes()
    assert not body.isascii()
    body.decode("cp1252")
    with pytest.raises(UnicodeDecodeError):
        body.decode("utf-8")


@pytest.mark.parametrize(("kind", "name"), ALL, ids=[name for _, name in ALL])
def test_intake_refuses_and_mends_exactly_what_was_spoiled(small: Any, kind: str, name: str) -> None:
    contract, tally = load(kind), Tally()
    period = contract.period.of_file(name)
    parts = list(judged(Source.open(small.path(name)), contract, period, tally))
    labels = small.manifest.labels.filter(bestand=name)
    refused = sorted(line for part in parts for line in part.refused[LINE])
    assert refused == sorted(labels.filter(uitkomst="quarantined")["regel"])
    assert tally.repaired == labels.filter(uitkomst="repaired").height


def test_most_bsns_of_bus_are_in_the_brp(small: Any) -> None:
    brp = pl.read_csv(small.path("brp_20201231.csv"), separator=";", infer_schema=False, truncate_ragged_lines=True)
    place = sum(column.width or 0 for column in load("bus").columns[:17])
    lines = small.path("BUS_202003.txt").read_text("cp1252").splitlines()
    bsns = pl.Series([line[place : place + 9] for line in lines])
    known = bsns.is_in(brp["bsn"].implode()).mean()
    assert 0.95 < known < 1


def test_owners_live_here_and_elsewhere(small: Any) -> None:
    brp = pl.read_csv(small.path("brp_20201231.csv"), separator=";", infer_schema=False, truncate_ragged_lines=True)
    register = pl.read_csv(
        small.path("bedrijven_20200101.csv").read_bytes().decode("cp1252").encode(),
        separator=";",
        infer_schema=False,
        truncate_ragged_lines=True,
    )
    owners = register["eigenaar_bsn"].drop_nulls()
    assert 0.8 < owners.is_in(brp["bsn"].implode()).mean() < 0.97
    assert register.filter(rechtsvorm="Eenmanszaak")["eigenaar_bsn"].null_count() == 0


def test_the_inbox_is_filled_once(settings: Settings) -> None:
    dropped = fill_inbox(settings, scale=0.001)
    inbox = settings.paths.inbox
    assert sorted(str(path.relative_to(inbox)) for path in dropped) == sorted(f"{kind}/{name}" for kind, name in ALL)
    assert [path for path in inbox.rglob("*") if path.name.startswith(".")] == []
    assert fill_inbox(settings, scale=0.001) == []


def test_what_the_ledger_shows_as_taken_in_is_not_delivered_again(settings: Settings) -> None:
    fill_inbox(settings, scale=0.001)
    noted = json.loads((settings.paths.root / "sample" / "deliveries.json").read_text())["files"]
    ledger = Ledger(settings.paths.ledger)
    for kind, name in ALL:
        (settings.paths.inbox / kind / name).unlink()
        if name != "BUS_202003.txt":
            ledger.append("delivery", kind, {"fingerprint": noted[f"{kind}/{name}"], "status": "ontvangen"})
    (again,) = fill_inbox(settings, scale=0.001)
    assert again.name == "BUS_202003.txt"


def test_a_kind_that_the_factory_does_not_name_is_not_delivered(settings: Settings) -> None:
    fewer = settings.model_copy(update={"deliveries": {"brp": settings.deliveries["brp"]}})
    fewer._source = settings.source
    assert [path.name for path in fill_inbox(fewer, scale=0.001)] == list(FILES["brp"])


def test_the_command_tells_what_it_wrote(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "d"), "--scale", "0.001", "--labels", str(tmp_path / "l"), "--json"]
    told = CliRunner().invoke(app, ["sample", "deliveries", *arguments])
    assert told.exit_code == 0, told.output
    files = json.loads(told.stdout)["files"]
    assert [(file["delivery"], file["name"]) for file in files] == ALL
    assert pl.read_csv(tmp_path / "l" / "labels.csv").height > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["d"], "not empty"),
        (["d", "--force", "--scale", "2"], "over 0 and at most 1"),
        (["new", "--labels", "new/labels"], "take it for a delivery"),
        (["d/file"], "is a file"),
    ],
)
def test_the_command_refuses_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").touch()
    result = CliRunner().invoke(app, ["sample", "deliveries", *arguments])
    assert isinstance(result.exception, SampleError)
    assert message in str(result.exception)
