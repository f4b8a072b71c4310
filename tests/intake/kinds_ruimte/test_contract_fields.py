"""Contracts from anyone's hand: what would be SQL or a way out of a folder is refused, or stays the text that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.deliveries.intake import take_inbox
from assets.deliveries.layouts import render
from assets.deliveries.purposes import derive
from datafabriek.config import ConfigError, load_settings
from datafabriek.warehouse import warehouse
from quality.contracts.model import ContractError, load, read
from quality.privacy.keys import ensure_key

SQL = "x'); DROP TABLE raw_proef.meetpunten; --"


@pytest.fixture
def contract(make: Any, tmp_path: Path) -> Path:
    """A contract of the factory's own."""
    make({"meetpunten": None}, own=True)
    return tmp_path / "contracts" / "meetpunten.yaml"


@pytest.mark.parametrize(
    ("change", "into", "told"),
    [
        ("telling: {", f'"{SQL}": {{', "is no name"),
        ("      proef:", f'      "{SQL}":', "is no name"),
        ("name: lat\n", f'name: "{SQL}"\n', "is not known"),
        ("van: telling", f'van: "{SQL}"', "is not known"),
        ("soort: maand", f'soort: "{SQL}"', "is not known"),
        ("formaat: gescheiden", "formaat: ../../evil", "is not known"),
        ("[coordinaten_rd]", "[coordinaten_rd, alles]", "did you mean|expected one of"),
        ("breedtegraad: lat", "breedtegraad: latt", "did you mean `lat`"),
        ("van: [lat, lon]", "van: lat", "needs 2 column"),
        ("bewerking: kopie, van: telling", "bewerking: kopie", "needs 1 column"),
        ("bewerking: kopie, van: telling", "bewerking: kopie, van: nummer", "identifiers end at the vault"),
        ("id: meetpunten", f'id: "{SQL}"', "expected kind DataContract"),
    ],
)
def test_a_contract_field_that_is_no_name_is_refused(contract: Path, change: str, into: str, told: str) -> None:
    text = contract.read_text()
    assert change in text
    contract.write_text(text.replace(change, into, 1))
    with pytest.raises(ContractError, match=told):
        read(contract)


def test_sql_in_words_stays_words(contract: Path, tmp_path: Path) -> None:
    words = contract.read_text().replace("name: Meetpunten", f'name: "{SQL}"')
    words = words.replace("soort: object}", f'soort: object, omschrijving: "{SQL}"}}')
    words = words.replace("value: Proef}", f'value: "{SQL}"}}')
    contract.write_text(words)
    factory = load_settings(tmp_path / "factory.yaml")
    agreed = load("meetpunten", [contract.parent])
    frame = pl.DataFrame({"nummer": [SQL], "telling": ["1"], "moment": ["2024-03-01 00:00:00"]})
    frame = frame.with_columns(lat=pl.lit("52.08"), lon=pl.lit("4.31"))
    (factory.paths.inbox / "meetpunten").mkdir()
    (factory.paths.inbox / "meetpunten" / "meetpunten_202403.csv").write_bytes(render(frame, agreed))
    assert take_inbox(factory, "meetpunten")[0].accepted == 1
    derive(factory, ensure_key(factory.paths), "meetpunten", "proef")
    with warehouse(factory.paths, factory.resources) as con:
        assert con.execute("SELECT count(*) FROM raw_proef.meetpunten").fetchone() == (1,)
        told = con.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'meetpunten'").fetchone()
    assert told is not None
    assert SQL in told[0]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"kind": "postgres", "dsn_env": "X; Y", "query": "SELECT 1"}, "dsn_env"),
        ({"kind": "postgres", "dsn": "postgresql://a:b@c/d", "query": "SELECT 1"}, "dsn"),
        ({"kind": "ogc", "url": "file:///etc/passwd", "layer": "x"}, "http:// or https://"),
        ({"kind": "ogc", "url": "http://h", "layer": "../../admin?x="}, "layer"),
        ({"kind": "ftp", "url": "http://h", "layer": "x"}, "source"),
    ],
)
def test_a_source_that_is_none_is_refused_with_its_line(make: Any, source: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make({"meetpunten": {"source": source}}, own=True)
