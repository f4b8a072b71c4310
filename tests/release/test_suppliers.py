"""Suppliers who know their own records: a total that they know exactly must not tell what comes from another."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from assets.release import admission, joint
from assets.release.blocks import Block, Part
from assets.release.marts import Mart, read_marts, suppliers
from assets.release.verify import verify
from quality.norms import Norms, NormsError, load_norms
from quality.protection import parse_spec

NORMS = {
    "versie": "toets-1",
    "vastgesteld_op": "2026-01-01",
    "vastgesteld_door": "de toets",
    "doelgroepen": {"intern": {"minimum": 5, "afronding": 5, "bescherming": 3}},
    "herziening_maximaal": "geen",
    "kwaliteit": {"onbekende_buurt_pct": 20},
}
BOTH = ["source.f.raw_bijstand.bus", "source.f.raw_bijstand.brp"]
WERK, BURGERS = "Afdeling Werk en inkomen", "Afdeling Burgerzaken"
SECTOR = "SELECT regio_code, sector_code, teller, status FROM zzp_per_sector WHERE regio_code = 'WK191600' ORDER BY ALL"


@pytest.fixture
def joined(factory):
    """A count from one register by a classification from another: in a wijk of 71 there are 67 in A and 4 in B."""
    sources = factory.settings.paths.dbt / "target" / "manifest.json"
    write = factory.manifest

    def manifest(*opened):
        write(*opened)
        text = sources.read_text().replace('"sources": {', '"sources": {"source.f.raw_bijstand.brp": '
                                           '{"schema": "raw_bijstand", "name": "brp"}, ')  # fmt: skip
        sources.write_text(text)

    factory.manifest = manifest
    factory.extra_parents = {"zzp_per_regio": ["source.f.raw_bijstand.bus"], "zzp_per_sector": BOTH}
    factory.norms(yaml.safe_dump(NORMS, sort_keys=False))
    counts = {"BU19160000": 3, "BU19160001": 28}
    factory.zzp(counts, {"WK191600": {"A": 67, "B": 4, "C": 0}})
    factory.specs["zzp_per_sector"] = factory.specs["zzp_per_sector"] | {"uit": {"teller": "bus", "sector_code": "brp"}}
    factory.manifest()
    return factory


def told(factory, leveranciers):
    """Norms that take these suppliers to know their own records."""
    factory.norms(yaml.safe_dump(NORMS | {"aanvaller": {"leveranciers": leveranciers}}, sort_keys=False))


def widths(rows, total):
    """How far apart each hidden sector can lie for who knows the total and the norm."""
    shown = {sector: value for _, sector, value, _ in rows if sector != "T001081"}
    low = {s: (max(v - 2, 5) if v else 0) if v is not None else 1 for s, v in shown.items()}
    high = {s: (v + 2 if v else 0) if v is not None else total for s, v in shown.items()}
    found = {}
    for sector, value in shown.items():
        if value is None:
            others = [s for s in shown if s != sector]
            least = max(low[sector], total - sum(high[s] for s in others))
            most = min(high[sector], total - sum(low[s] for s in others))
            if all(shown[s] is not None for s in others):
                most = min(most, 4)  # the only one that is hidden is one that the norm hides
            found[sector] = most - least
    return found


def test_what_a_supplier_knows_is_reckoned_with(joined, ask):
    """A shows 65, the wijk 70, so a reader knows of B that it is 1 to 4; who counted the 71 knows that it is 4."""
    results = {}
    for who in ("allen", "geen"):
        told(joined, who)
        release = joined.candidate("intern")
        assert release.record["tabellen"]["zzp_per_sector"]["staat"] == "actueel"
        results[who] = widths(ask(release, SECTOR), 71)
    assert min(results["allen"].values()) >= 3
    assert min(results["geen"].values()) < 3, "else nothing was tried"


def test_a_supplier_knows_the_count_by_what_it_supplied_itself(joined):
    marts = {mart.name: mart for mart in read_marts(joined.settings)}
    norms = load_norms(joined.folder / "policy")
    whose = suppliers(joined.settings, norms, list(marts.values()))
    assert (whose["bus"], whose["brp"]) == (WERK, BURGERS)
    spec = parse_spec(marts["zzp_per_sector"].disclosure)
    found = admission.supplied_columns(marts["zzp_per_sector"], spec, norms, whose)
    assert found == {WERK: {"teller"}, BURGERS: {"sector_code"}}
    keys = (("WK1", "T001081"), ("WK1", "A"))
    part = Part("m", spec, ("WK", "GM"), 2020, keys, ("WK", "WK"), np.array([9.0, 9.0]), np.zeros(2, bool))
    block = Block("n", "2020", "GM1916", (part,))
    ready = {"m": admission.Checked(marts["zzp_per_sector"], spec, "WK", (), found)}
    own = joint.own_records(block, ready)
    assert {who: known[0].tolist() for who, known in own.items()} == {WERK: [True, False]}, (
        "who counts nothing knows none"
    )
    everything = {"m": admission.Checked(marts["zzp_per_sector"], spec, "WK", (), {WERK: frozenset(spec.uit)})}
    assert joint.own_records(block, everything) == {}, "who knows all there is learns nothing"


def test_a_table_of_two_registers_says_which_part_comes_from_which(joined):
    joined.specs["zzp_per_sector"].pop("uit")
    joined.manifest()
    reason = joined.candidate("intern").record["tabellen"]["zzp_per_sector"]["reden"]
    assert reason.startswith("leveranciers: de tabel rust op brp, bus; zeg in de disclosure-spec waaruit elk deel komt")
    joined.specs["zzp_per_sector"]["uit"] = {"teller": "jeugdzorg", "sector_code": "brp"}
    joined.manifest()
    reason = joined.candidate("intern").record["tabellen"]["zzp_per_sector"]["reden"]
    assert reason.startswith("leveranciers: uit noemt jeugdzorg")
    told(joined, "geen")
    joined.specs["zzp_per_sector"].pop("uit")
    joined.manifest()
    assert joined.candidate("intern").record["tabellen"]["zzp_per_sector"]["staat"] == "actueel"


def test_a_named_supplier_that_nobody_knows_stops_the_release(joined):
    told(joined, ["UWV"])
    with pytest.raises(NormsError, match=f"no contract has UWV as its leverancier.*known are {BURGERS}, {WERK}"):
        joined.candidate("intern")
    told(joined, [WERK])
    assert joined.candidate("intern").record["tabellen"]["zzp_per_sector"]["staat"] == "actueel"


def test_a_register_without_a_contract_has_a_supplier_of_its_own(joined):
    marts = [Mart("x", sources=("raw_zorg.onbekend", "raw_cbs.regios"))]
    assert suppliers(joined.settings, Norms(**NORMS), marts)["onbekend"] == "onbekend"


def test_the_second_look_finds_what_a_supplier_could_work_out(joined):
    """A candidate that was made as if suppliers knew nothing is stopped before it is published."""
    told(joined, "geen")
    candidate = joined.candidate("intern")
    marts = read_marts(joined.settings)
    assert verify(candidate, joined.settings, "intern", load_norms(joined.folder / "policy"), marts) == []
    told(joined, "allen")
    found = verify(candidate, joined.settings, "intern", load_norms(joined.folder / "policy"), marts)
    assert [item.check for item in found] == ["geheim_is_niet_uit_te_rekenen"]
    assert "1 leveranciers rekenen te veel uit" in found[0].told
    assert (
        verify(joined.candidate("intern"), joined.settings, "intern", load_norms(joined.folder / "policy"), marts) == []
    )


def test_no_later_view_starts_from_one_that_withstood_fewer(joined, ask):
    """What intern was shown while suppliers counted for nothing tells one too much; open is not made from it."""
    both = {"intern": NORMS["doelgroepen"]["intern"], "open": NORMS["doelgroepen"]["intern"]}

    def open_after_intern(leveranciers):
        text = NORMS | {"doelgroepen": both, "aanvaller": {"leveranciers": leveranciers}}
        joined.norms(yaml.safe_dump(text, sort_keys=False))
        return joined.candidate("open")

    joined.norms(yaml.safe_dump(NORMS | {"doelgroepen": both, "aanvaller": {"leveranciers": "geen"}}, sort_keys=False))
    joined.release("intern")
    careless = open_after_intern("geen")
    assert min(widths(ask(careless, SECTOR), 71).values()) < 3, "else nothing was tried"
    careful = open_after_intern("allen")
    facts = careful.record["tabellen"]["zzp_per_sector"]
    assert facts["staat"] == "ontbreekt" or min(widths(ask(careful, SECTOR), 71).values()) >= 3
