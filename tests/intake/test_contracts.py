"""Contracts: valid ODCS, in agreement with themselves, and refused with the remedy where not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from quality.contracts.model import SHIPPED, ContractError, PeriodRule, find_contracts, load, read
from quality.schemas.deliveries import rules_of

NAMES = sorted(find_contracts())


@pytest.mark.parametrize("name", NAMES)
def test_shipped_contract_is_in_order_and_says_who(name: str) -> None:
    contract = load(name)
    assert contract.supplier
    assert contract.owner
    assert contract.promised_days
    assert all(column.description for column in contract.columns)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_contract_is_valid_odcs(name: str, shared_data: Path) -> None:
    import jsonschema

    schema = json.loads((shared_data / "standards" / "odcs" / "odcs-json-schema-v3.1.0.json").read_text())
    document = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    jsonschema.Draft201909Validator(schema).validate(document)


def test_bus_has_the_fields_and_positions_of_its_annex(shared_data: Path) -> None:
    import csv

    fields = list(csv.DictReader((shared_data / "municipal" / "bus_2015.csv").open(encoding="utf-8")))
    columns = load("bus").columns
    assert len(columns) == len(fields) == 34
    for column, printed in zip(columns, fields, strict=True):
        digits = "".join(c for c in printed["formaat"].replace("..", " ").split()[-1] if c.isdigit())
        size = int(digits or 0) + printed["formaat"].startswith("sign")
        if printed["formaat"][0] in "ANs" and "jjjj" not in printed["formaat"] and digits:
            assert column.width == size, column.name
        listed = set(re.findall(r"(?:^|;)(\w{1,3})=", printed["codes"]))
        if column.codes and len(listed) > 1 and column.name != "tegenprestatie":  # misprinted, see LAYOUTS.md
            assert set(column.codes) == listed, column.name


@pytest.mark.parametrize("name", NAMES)
def test_no_purpose_gets_an_identifier_without_a_pseudonym(name: str) -> None:
    contract = load(name)
    closed = {c.name for c in contract.columns if c.privacy in {"direct_identificerend", "administratief_nummer"}}
    for purpose in contract.purposes.values():
        for column in purpose.columns:
            if column.derivation not in {"pseudoniem", "bijzondere_code"}:  # that tells of listed words only
                assert not closed & set(column.sources)


def _changed(tmp_path: Path, change: str, into: str) -> Path:
    text = (SHIPPED / "brp.yaml").read_text()
    assert change in text
    path = tmp_path / "brp.yaml"
    path.write_text(text.replace(change, into, 1))
    return path


@pytest.mark.parametrize(
    ("change", "into", "told"),
    [
        ("herstel, value: [spaties_weg, {voorloop", "herstel, value: [spatie_weg, {voorloop", "did you mean `spaties_"),
        ("bewerking: pseudoniem, van: bsn", "bewerking: kopie, van: bsn", "identifiers end at the vault"),
        ("classification: direct_identificerend", "classification: geheim", "expected one of"),
        ("van: bsn, soort: bsn", "van: bns, soort: bsn", "did you mean `bsn`"),
        ("correctie, value: vervangt_alles", "correctie, value: vervang_alles", "did you mean `vervangt_alles`"),
        ("apiVersion: v3.1.0", "apiVersion: [", "not valid YAML"),
        ("kind: DataContract", "kind: Iets", "expected kind DataContract"),
        ("behoud: {op_peildatum", "behoud: {op_peildata", "did you mean `op_peildatum`"),
        ("[geldig_van, geldig_tot]", "[geldig_van]", "two columns"),
        ("{persoon_pseudoniem: bus.", "{buurt_code: bus.", "`buurt_code` is not known"),
        ("persoon_pseudoniem: bus.persoon_pseudoniem", "persoon_pseudoniem: bus", "one pseudonym here and one there"),
        (": bus.persoon_pseudoniem", ": brp.persoon_pseudoniem", "is this very delivery"),
        (": bus.persoon_pseudoniem", ": 'bus; drop.x'", "one pseudonym here and one there"),
        ("peildata: bus.", "peildata: brp.", "a column of the table under `komt_voor_in`"),
        ("peildata: bus.statistiekmaand", "peildata: 'bus.x; drop'", "a column of the table under `komt_voor_in`"),
        ("bewerking: eerste_peildatum", "jaren_terug: 5, bewerking: eerste_peildatum", "jaren_terug is gone"),
        ("bewerking: eerste_peildatum", "bewerking: kopie", "two columns made by eerste_peildatum"),
        ("behoud: {op", "behoud: {waar: buurt_code, op", "behoud.waar: `buurt_code` is not known"),
    ],
)
def test_a_contract_not_in_order_is_told_with_the_remedy(tmp_path: Path, change: str, into: str, told: str) -> None:
    with pytest.raises(ContractError) as caught:
        read(_changed(tmp_path, change, into))
    assert told in str(caught.value)


def test_of_every_layout_it_is_told_where_it_comes_from(repository: Path) -> None:
    rows = [line for line in (repository / "docs" / "layouts.md").read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(find_contracts())


def test_one_name_for_two_contracts_is_refused(tmp_path: Path) -> None:
    _changed(tmp_path, "version: 1.0.0", "version: 2.0.0")
    with pytest.raises(ContractError, match="rename yours"):
        find_contracts([tmp_path])


def test_an_unknown_contract_is_told_what_is_near() -> None:
    with pytest.raises(ContractError, match="did you mean `bus`"):
        load("buss")


@pytest.mark.parametrize(
    ("name", "file", "period"),
    [
        ("bus", "BUS_202003.txt", "2020-03"),
        ("brp", "brp_20201231.csv", "2020-12-31"),
        ("adressen", "adressen_2020.csv", "2020"),
        ("bus", "BUS_202013.txt", None),
        ("brp", "brp_20200230.csv", None),
        ("bus", "../BUS_202003.txt", None),
    ],
)
def test_the_period_is_read_from_the_file_name(name: str, file: str, period: str | None) -> None:
    assert load(name).period.of_file(file) == period


# --- contracts that build on another ---------------------------------------------------------------------------------

_OWN = """
apiVersion: v3.1.0
kind: DataContract
id: jw305_eigen
version: 1.0.0
status: active
customProperties:
  - {property: zoals, value: BASE}
  - {property: max_foutaandeel, value: 0.1}
schema:
  - name: jw305_eigen
    properties:
      - {name: productcode, description: Onze eigen code.}
      - {name: extra, logicalType: string, description: Erbij., classification: open, physicalName: Client/Extra}
"""


def _own(folder: Path, base: str = "jw305", text: str = _OWN) -> Path:
    path = folder / "jw305_eigen.yaml"
    path.write_text(text.replace("BASE", base))
    return path


def test_a_contract_that_builds_on_another_has_all_that_it_does_not_say(tmp_path: Path) -> None:
    own, base = read(_own(tmp_path)), load("jw305")
    assert own.names == [*base.names, "extra"]
    assert (own.max_refused, own.key, own.layout, own.relations) == (0.1, base.key, base.layout, base.relations)
    assert own["productcode"].description == "Onze eigen code."
    assert own["productcode"].repairs == base["productcode"].repairs
    assert own.digest != base.digest


def test_what_a_contract_builds_on_may_change_and_is_read_anew(tmp_path: Path) -> None:
    base = tmp_path / "basis.yaml"
    base.write_text((SHIPPED / "jw305.yaml").read_text().replace("jw305", "basis"))
    path = _own(tmp_path, "basis")
    before = read(path)
    base.write_text(base.read_text().replace("max_foutaandeel, value: 0.5", "groei, value: 3"))
    os.utime(base, ns=(1, 1))
    after = read(path)
    assert (before.most_growth, after.most_growth) == (10, 3)
    assert after is read(path)


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("jw999", "no other contract is called `jw999`"), ("../basis", "no other contract is called"),
        ("jw305_eigen", "no other contract is called"), ("wmo305", "builds on another itself"),
    ],
)  # fmt: skip
def test_a_contract_that_builds_on_nothing_is_refused(tmp_path: Path, base: str, told: str) -> None:
    with pytest.raises(ContractError, match=told):
        read(_own(tmp_path, base))


@pytest.mark.parametrize("reference", ["jw301.kleur", "jw301.volume", "jw305.productcategorie", "niets.x"])
def test_a_code_list_that_is_nobodys_is_refused(tmp_path: Path, reference: str) -> None:
    codes = f"customProperties: [{{property: codes, value: {{zoals: {reference}}}}}]"
    text = _OWN.replace("description: Onze eigen code.", codes)
    with pytest.raises(ContractError, match=r"zoals: (`jw30[15]\.|no other contract)"):
        read(_own(tmp_path, text=text))


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        (r"^BUS_(?P<jaar>\d{4})(?P<maand>\d{2})\.txt$", "BUS_202405.txt"),
        (r"^(?P<jaar>\d{4})-(?P<maand>\d{2}) SZDOS .*\.xlsx$", "2024-05 SZDOS ….xlsx"),
        (r"^(?P<jaar>\d{4})(?P<maand>\d{2})_(?P<gemeente>\d{4})_\w+\.csv$", "202405_…_….csv"),
        (r"^a[bc](?P<jaar>\d{4})(?P<maand>\d{2})$", r"^a[bc](?P<jaar>\d{4})(?P<maand>\d{2})$"),
    ],
)
def test_a_file_name_is_told_as_people_read_it(pattern: str, told: str) -> None:
    assert PeriodRule("maand", re.compile(pattern), {}).file_name == told


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ("{property: layout, value: {formaat: gescheiden, scheiding: ';;', codering: cp1252}}", "layout.scheiding"),
        ("{property: layout, value: {formaat: gescheiden, scheiding: a, codering: cp1252}}", "layout.scheiding"),
        ("{property: layout, value: {formaat: gescheiden, codering: utf-7}}", "layout.codering: `utf-7`"),
        ("{property: layout, value: {formaat: gescheiden, codering: rot13}}", "layout.codering: `rot13`"),
        ("{property: layout, value: {formaat: gescheiden, codering: onzin}}", "layout.codering: `onzin`"),
        ("{property: max_foutaandeel, value: .nan}", "max_foutaandeel: a number from 0 to 1"),
        ("{property: max_foutaandeel, value: veel}", "max_foutaandeel: a number from 0 to 1"),
        ("{property: groei, value: .inf}", "groei: a number from 1"),
        (r"{property: afdrukregel, value: '^(?=Totaal)'}", "`afdrukregel`: a regular expression without"),
        (r"{property: afdrukregel, value: '^(a)\1'}", "`afdrukregel`: a regular expression without"),
        ("{property: afdrukregel, value: '^(['}", "`afdrukregel`: a regular expression without"),
    ],
)
def test_what_would_only_fail_or_hold_nothing_back_at_the_intake_is_refused(
    tmp_path: Path, own: str, told: str
) -> None:
    document = yaml.safe_load((SHIPPED / "bedrijven.yaml").read_text())
    given = yaml.safe_load(own)
    kept = [each for each in document["customProperties"] if each["property"] != given["property"]]
    path = tmp_path / "eigen.yaml"
    path.write_text(yaml.safe_dump(document | {"id": "eigen", "customProperties": [*kept, given]}))
    with pytest.raises(ContractError, match=re.escape(told)):
        read(path)


def test_no_free_text_of_a_person_is_copied_out_of_the_vault(tmp_path: Path) -> None:
    """A name that moved a column would stand in the warehouse: what is copied is bound by codes or a pattern."""
    text = (SHIPPED / "zorgned_facturen.yaml").read_text().replace("id: zorgned_facturen", "id: eigen")
    path = tmp_path / "eigen.yaml"
    bound = "{bewerking: groep, van: leveringsvorm, groepen: {ZIN: [ZIN], PGB: [PGB]}"  # its other codes only warn
    for old, new in ((bound, "{bewerking: kopie, van: leveringsvorm"), ("van: voorzieningsoort", "van: voorziening")):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(ContractError, match="would leave the vault"):
            read(path)


@pytest.mark.parametrize("bound", ["", "minimum: 0", "minimum: 0, maximum: 999999999"])
@pytest.mark.parametrize("how", ["kopie", "hele_euros"])
def test_no_number_in_which_a_bsn_fits_is_copied_out_of_the_vault(tmp_path: Path, how: str, bound: str) -> None:
    """A BSN that moved a column is a number like any other, unless what stands there is bound."""
    text = (SHIPPED / "zorgned_facturen.yaml").read_text().replace("id: zorgned_facturen", "id: eigen")
    text = text.replace(
        "{bewerking: hele_euros, van: bedrag_goedgekeurd", f"{{bewerking: {how}, van: bedrag_goedgekeurd"
    )
    path, agreed = tmp_path / "eigen.yaml", "minimum: -9999999, maximum: 9999999"
    assert agreed in text
    path.write_text(text)
    assert read(path).name == "eigen"
    path.write_text(text.replace(agreed, bound))
    with pytest.raises(ContractError, match="a BSN that stands there by mistake too"):
        read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_bsn_in_a_number_that_leaves_the_vault_is_refused(name: str) -> None:
    """The attack: BSNs in every number that a purpose copies, of whole files with persons in them."""
    contract = load(name)
    persons = any(column.privacy == "direct_identificerend" for column in contract.columns)
    for purpose in contract.purposes.values():
        for derived in purpose.columns:
            if derived.derivation not in {"kopie", "hele_euros"}:
                continue
            source = contract[derived.sources[0]]
            if source.type not in {"integer", "number"} or not (persons or source.personal):
                continue  # as figures of CBS
            frame = pl.DataFrame({source.name: ["123456782", "111222333", "+123456782", "012345672"]})
            good = frame.select(pl.all_horizontal(rules_of(source).values())).to_series()
            assert not good.any(), f"{name}.{source.name}"
