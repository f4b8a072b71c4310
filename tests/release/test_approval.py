"""Approval: a table goes out under a proposal by one person that another approved, of the table as it is."""

from __future__ import annotations

import json
from pathlib import Path

import minisign
import pytest
import yaml

from assets.release.approval import approved_norms, covered, recheck, unapproved
from assets.release.assets import release_candidate
from assets.release.gate import GateError
from assets.release.marts import read_marts
from assets.release.proposals import FOLDER, Proposal, ProposedTable
from assets.release.publish import ReleaseError, releases, withdraw
from datafabriek.config import load_settings
from datafabriek.ledger import LedgerError
from datafabriek.locking import factory_lock
from quality.contracts.model import SHIPPED
from quality.norms import NormsError, load_norms
from quality.privacy.approvals import ApprovalError, sign, unlock

TABLE = "bijstand_per_regio"
PASSWORD = "een lang wachtwoord"


def reasons(factory, audience="intern"):
    norms = load_norms(factory.folder / "policy")
    return unapproved(factory.settings, factory.ledger, audience, read_marts(factory.settings), norms)


def change_norms(factory, old, new):
    text = (factory.folder / "policy" / "normen.yaml").read_text()
    assert old in text
    factory.norms(text.replace(old, new))


def test_without_a_proposal_a_table_is_refused_with_the_command_to_run(real):
    assert reasons(real) == {
        TABLE: "niet goedgekeurd voor intern, er is geen voorstel: `datafabriek release propose intern --key SLEUTEL`"
    }
    real.propose()
    real.zzp({})
    told = reasons(real)["zzp_per_regio"]
    assert "er is geen voorstel: `datafabriek release propose intern zzp_per_regio --key SLEUTEL`" in told


def test_a_proposal_waits_until_someone_else_approves_it(real):
    filed = real.propose()
    assert filed.proposer.person == "anna"
    shown = filed.path.relative_to(real.folder)
    assert "wacht op goedkeuring" in reasons(real)[TABLE]
    assert f"`datafabriek release approve {shown} --key SLEUTEL`" in reasons(real)[TABLE]
    approved = real.approve(filed.path)
    assert [item.person for item in approved.approved] == ["bob"]
    assert reasons(real) == {}
    assert TABLE in reasons(real, "open"), "another audience needs a proposal of its own"


def test_ledger_and_file_tell_who_proposed_and_who_approved_what(real):
    filed = real.propose()
    real.approve(filed.path)
    proposed = real.ledger.last("proposal", "intern").payload
    document = yaml.safe_load(filed.path.read_text())
    assert proposed["door"] == document["voorgesteld_door"] == "anna"
    assert proposed["tabellen"] == {TABLE: document["tabellen"][TABLE]["vingerafdruk"]}
    assert document["tabellen"][TABLE]["spec"]["levels"] == ["BU", "WK", "GM"]
    assert document["tabellen"][TABLE]["bronnen"] == ["raw_bijstand.bus"]
    signed = [(e.payload["role"], e.payload["person"]) for e in real.ledger.events("approval", filed.path.name)]
    assert signed == [("voorstel", "anna"), ("leveringen", "bob")]
    assert real.ledger.last("approval", filed.path.name).payload["holders"] == ["anna", "bob", "cees"]


def test_the_sample_asks_for_none(factory):
    assert reasons(factory) == {}
    assert not covered(
        factory.settings, factory.ledger, "open", read_marts(factory.settings), load_norms(factory.folder / "policy")
    ).asked
    with pytest.raises(ApprovalError, match="sample factory asks for no approval"):
        factory.propose()


def test_norms_may_ask_no_approval_for_an_audience(real):
    change_norms(real, "intern: {", "intern: {goedkeuring: niet, ")
    assert reasons(real) == {}
    assert TABLE in reasons(real, "open")
    change_norms(real, "goedkeuring: niet", "goedkeuring: soms")
    with pytest.raises(NormsError, match="goedkeuring"):
        reasons(real)


# What changes after the approval: it counts for what was approved, and for nothing else.


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.specs.update({TABLE: f.specs[TABLE] | {"levels": ["WK", "GM"]}}), "de spec"),
        (
            lambda f: f.extra_parents.update({TABLE: ["source.f.raw_cbs.kerncijfers_wijken_en_buurten"]}),
            "de bronnen, de leverancier, het contract",
        ),
        (lambda f: f.sql(f"ALTER TABLE marts.{TABLE} ADD COLUMN leeftijd INTEGER"), "de kolommen"),
    ],
    ids=["spec", "sources", "columns"],
)
def test_a_table_that_changed_after_the_approval_is_refused(real, change, told):
    old = real.propose()
    real.approve(old.path)
    change(real)
    real.manifest()
    assert f"gewijzigd sinds voorstel {old.path.name}: {told}:" in reasons(real)[TABLE]
    new = real.propose()
    assert "wacht op goedkeuring" in reasons(real)[TABLE]
    real.approve(new.path)
    assert reasons(real) == {}, "a new proposal is the way on"


def test_the_reason_names_all_that_changed(real):
    real.approve(real.propose().path)
    real.specs[TABLE] = real.specs[TABLE] | {"levels": ["WK", "GM"]}
    real.manifest()
    change_norms(real, "minimum: 5", "minimum: 6")
    assert ": de normen, de spec:" in reasons(real)[TABLE]


def test_another_query_under_the_same_spec_is_refused(real):
    """Whoever may edit a model, or a macro of it, releases nothing new under an old signature."""
    real.approve(real.propose().path)
    manifest = real.settings.paths.dbt / "target" / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole.replace(f"{len(TABLE):064}", "f" * 64))
    assert ": het model:" in reasons(real)[TABLE]
    manifest.write_text(whole)
    assert reasons(real) == {}


def test_a_table_made_from_another_text_than_the_approved_one_is_refused(real):
    """A model is changed, built, and put back: its text is the approved one again, its table is not."""
    real.approve(real.propose().path)
    path = real.settings.paths.dbt / "target" / "manifest.json"
    approved = path.read_text()
    path.write_text(approved.replace(f"{len(TABLE):064}", "f" * 64))
    real.dbt_results()
    path.write_text(approved)
    assert reasons(real) == {}
    with pytest.raises(GateError, match="gewijzigd sinds de tabel is gemaakt"):
        real.candidate("intern")
    real.dbt_results()
    assert real.candidate("intern").record["tabellen"][TABLE]["staat"] == "actueel"


def contract(factory, change):
    """A contract of the factory's own for the delivery that the table rests on, after a change of its text."""
    text = (SHIPPED / "bus.yaml").read_text()
    assert change(text) != text
    own = factory.folder / "contracten" / "uitkeringen.yaml"
    own.parent.mkdir(exist_ok=True)
    own.write_text(change(text).replace("id: bus\n", "id: uitkeringen\n"))
    (factory.folder / "factory.yaml").write_text(
        "name: Toetsfabriek\nsample: false\nhome: home\ncontracts: contracten\n"
        "deliveries: {bus: {contract: uitkeringen}}\n"
        "region: {gemeenten: [GM0518, GM1916], provincie: PV28}\nresources: {memory_limit: 1GB, threads: 1}\n"
    )
    factory.settings = load_settings(factory.folder / "factory.yaml")


def test_who_supplies_a_register_under_which_contract_is_part_of_the_approval(real):
    """Two registers of one supplier are one attacker: naming another supplier would split him."""
    filed = real.propose()
    real.approve(filed.path)
    assert filed.proposal.tabellen[TABLE].leveranciers == {"bus": "Afdeling Werk en inkomen"}
    contract(real, lambda text: text.replace("value: Afdeling Werk en inkomen", "value: Iemand anders"))
    assert ": de leverancier, het contract:" in reasons(real)[TABLE]
    real.approve(real.propose().path)
    assert reasons(real) == {}
    contract(
        real, lambda text: text.replace("value: Afdeling Werk en inkomen", "value: Iemand anders") + "\n# anders\n"
    )
    assert ": het contract:" in reasons(real)[TABLE]


def test_another_table_behind_the_name_of_a_source_is_refused(real):
    """A source keeps its name while its `identifier` leads to the rows of another delivery."""
    real.approve(real.propose().path)
    path = real.settings.paths.dbt / "target" / "manifest.json"
    document = json.loads(path.read_text())
    document["sources"]["source.f.raw_bijstand.bus"]["identifier"] = "schulden"
    path.write_text(json.dumps(document))
    assert ": de bronnen, de leverancier, het contract:" in reasons(real)[TABLE]


def test_a_proposal_of_before_suppliers_counted_still_verifies(real):
    """Releases that enclose one can be checked for good, though it covers nothing new."""
    filed = real.propose()
    table = filed.proposal.tabellen[TABLE]
    old = ProposedTable(**table.model_dump(include={"spec", "kolommen", "bronnen", "modellen"}))
    before = filed.proposal.model_copy(update={"tabellen": {TABLE: old}}).sealed()
    again = Proposal.model_validate(before.model_dump(mode="json", exclude_unset=True))
    assert again == again.sealed()
    assert again.tabellen[TABLE].vingerafdruk != table.vingerafdruk


def test_approvals_in_a_candidate_are_verified_before_it_goes_out(real):
    """Whoever reaches the candidate between making and publishing names another approver in it."""
    real.let_go("intern")
    folder = real.candidate("intern").folder
    record = json.loads((folder / "release.json").read_text())
    record["goedkeuring"]["tabellen"][TABLE]["goedgekeurd"] = [{"door": "cees", "functie": "", "op": "2026-11-21"}]
    (folder / "release.json").write_text(json.dumps(record))
    with pytest.raises(ReleaseError, match=r"is not published, .* of its approval cannot be used"):
        release_candidate(real.settings, "intern")


def test_a_factory_with_people_who_approve_does_not_turn_into_a_sample(real, monkeypatch):
    """`sample: true` before the first release would ask nobody for approval."""
    real.approve(real.propose().path)
    monkeypatch.setenv("DATAFABRIEK_SAMPLE", "true")
    real.settings = load_settings(real.folder / "factory.yaml")
    with pytest.raises(ApprovalError, match="has people who approve, so it is no sample"):
        real.candidate("intern")


def test_a_macro_counts_with_the_model_that_uses_it(real):
    manifest = real.settings.paths.dbt / "target" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["nodes"][f"model.f.{TABLE}"]["depends_on"] = {"macros": ["macro.f.buiten"]}
    own = {"package_name": "f", "depends_on": {"macros": []}}
    document["macros"] = {
        "macro.f.buiten": own | {"macro_sql": "x", "depends_on": {"macros": ["macro.f.binnen", "macro.dbt.is_z"]}},
        "macro.f.binnen": own | {"macro_sql": "een"},
        "macro.dbt.is_z": own | {"package_name": "dbt", "macro_sql": "z"},
    }
    document["metadata"] = {"adapter_type": "duckdb"}
    manifest.write_text(json.dumps(document))
    filed = real.propose()
    real.approve(filed.path)
    assert set(filed.proposal.tabellen[TABLE].modellen) == {f"model.f.{TABLE}", "macro.f.buiten", "macro.f.binnen"}
    document["macros"]["macro.f.binnen"]["macro_sql"] = "twee"
    manifest.write_text(json.dumps(document))
    assert ": het model:" in reasons(real)[TABLE]


# Attacks on who may.


def test_the_proposer_cannot_approve_though_she_holds_the_role(real):
    filed = real.propose()
    with pytest.raises(ApprovalError, match=r"anna proposed it, so someone else .* approves it: bob, cees"):
        real.approve(filed.path, "anna")
    # nor with the command for policy files, which knows nothing of proposals
    sign(real.settings, filed.path, "leveringen", real.folder.parent / "anna.key", PASSWORD)
    assert TABLE in reasons(real)


def test_the_proposer_cannot_approve_under_another_file_name(real):
    filed = real.propose()
    mine = filed.path.with_name(f"{filed.path.name}.anna.minisig")
    proposal_signature = mine.read_bytes()
    sign(real.settings, filed.path, "leveringen", real.folder.parent / "anna.key", PASSWORD)
    mine.rename(mine.with_name(f"{filed.path.name}.bob.minisig"))
    mine.write_bytes(proposal_signature)
    assert "de goedkeuring geldt niet" in reasons(real)[TABLE]


def test_nobody_proposes_in_another_s_name(real):
    """Anna writes that bob proposed it, and approves it herself."""
    filed = real.propose()
    text = filed.path.read_text().replace("voorgesteld_door: anna", "voorgesteld_door: bob")
    filed.path.write_text(text)
    with pytest.raises(ApprovalError, match="not signed by bob"):
        real.approve(filed.path, "anna")
    sign(real.settings, filed.path, "leveringen", real.folder.parent / "anna.key", PASSWORD)
    assert "niet (meer) getekend door wie het deed" in reasons(real)[TABLE]


def test_one_key_under_two_names_is_refused(real):
    path = real.folder / "policy" / "rollen.yaml"
    document = yaml.safe_load(path.read_text())
    document["personen"]["annabel"] = document["personen"]["anna"]
    document["rollen"]["leveringen"].append("annabel")
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ApprovalError, match="anna, annabel have one and the same sleutel"):
        real.propose()
    assert "rollen.yaml ontbreekt of klopt niet" in reasons(real)[TABLE]


def test_someone_who_is_not_listed_cannot_approve(real):
    filed = real.propose()
    real.people(leveringen=["anna", "bob"], normen=["bob"])
    with pytest.raises(ApprovalError, match="not of someone with the role leveringen"):
        real.approve(filed.path, "cees")


def test_an_approval_lapses_with_the_role(real):
    real.approve(real.propose().path)
    real.people(leveringen=["anna", "cees"], normen=["bob"])
    assert "de goedkeuring geldt niet (meer)" in reasons(real)[TABLE]


def test_a_signature_of_one_proposal_is_none_of_another(real):
    """Replayed for another table, for another audience, and for a file that was changed."""
    real.zzp({})
    first, second = real.propose(tables=[TABLE]), real.propose(tables=["zzp_per_regio"])
    elsewhere = real.propose("open", tables=[TABLE])
    real.approve(first.path)
    signature = first.path.with_name(f"{first.path.name}.bob.minisig")
    for other in (second, elsewhere):
        other.path.with_name(f"{other.path.name}.bob.minisig").write_bytes(signature.read_bytes())
    assert set(reasons(real)) == {"zzp_per_regio", "zzp_per_sector"}
    assert "de goedkeuring geldt niet" in reasons(real)["zzp_per_regio"]
    assert "de goedkeuring geldt niet" in reasons(real, "open")[TABLE]
    text = first.path.read_text()
    first.path.write_text(text.replace("- WK", "- WK\n      - PV"))
    assert TABLE in reasons(real), "its own file, changed"
    first.path.write_text(text.replace("doelgroep: intern", "doelgroep: open"))
    assert "de goedkeuring geldt niet" in reasons(real, "open")[TABLE]


def test_a_fingerprint_that_is_not_of_what_stands_above_it_is_refused(real):
    """A proposer shows the approver one spec and lets her sign the fingerprint of another."""
    filed = real.propose()
    document = yaml.safe_load(filed.path.read_text())
    document["tabellen"][TABLE]["spec"]["levels"] = ["GM"]
    filed.path.write_text(yaml.safe_dump(document))
    sign(real.settings, filed.path, "voorstel", real.folder.parent / "anna.key", PASSWORD)
    with pytest.raises(ApprovalError, match="a fingerprint in it is not of what it says"):
        real.approve(filed.path)
    assert "er is geen voorstel" in reasons(real)[TABLE]


def test_a_proposal_from_another_factory_does_not_count(real):
    real.approve(real.propose().path)
    settings = real.folder / "factory.yaml"
    settings.write_text(settings.read_text().replace("Toetsfabriek", "Andere fabriek"))
    real.settings = load_settings(settings)
    assert ": de fabriek:" in reasons(real)[TABLE]


def test_what_no_longer_fits_cannot_be_approved(real):
    filed = real.propose()
    real.specs[TABLE] = real.specs[TABLE] | {"levels": ["WK", "GM"]}
    real.manifest()
    with pytest.raises(ApprovalError, match=r"no longer fits .*bijstand_per_regio: de spec.*release propose intern"):
        real.approve(filed.path)


def test_a_proposal_elsewhere_than_in_its_folder_cannot_be_approved(real, tmp_path):
    filed = real.propose()
    copy = tmp_path / filed.path.name
    copy.write_bytes(filed.path.read_bytes())
    with pytest.raises(ApprovalError, match="where the release looks for it"):
        real.approve(copy)


def test_a_run_neither_proposes_nor_approves(real, monkeypatch):
    filed = real.propose()
    with factory_lock(real.settings.paths.lock, "run"):
        for deed in (real.propose, lambda: real.approve(filed.path)):
            with pytest.raises(ApprovalError, match="a run cannot approve"):
                deed()
    monkeypatch.setenv("DAGSTER_RUN_JOB_NAME", "nachtelijke_run")
    with pytest.raises(ApprovalError, match="a run cannot approve"):
        real.approve(filed.path)
    assert len(list(filed.path.parent.glob("*.yaml"))) == 1, "nothing stays of a proposal that nobody signed"


@pytest.mark.parametrize("way", ["itself", "a link out", "a link in", "another way in"])
def test_a_key_in_the_home_is_refused_however_it_is_reached(real, tmp_path, way):
    home, key = real.settings.paths.root, tmp_path / "bob.key"
    used = inside = home / "bob.key"
    if way == "a link in":
        inside.symlink_to(key)
    else:
        inside.write_bytes(key.read_bytes())
    if way == "a link out":
        used = tmp_path / "gelinkt.key"
        used.symlink_to(inside)
    elif way == "another way in":
        (tmp_path / "thuis").symlink_to(home)
        used = tmp_path / "thuis" / "bob.key"
    filed = real.propose()
    with pytest.raises(ApprovalError, match="lies in the factory's home"):
        unlock(real.settings, "leveringen", used, PASSWORD)
    assert TABLE in reasons(real)
    assert filed.approved == ()


def test_an_unreadable_proposal_hides_no_good_one(real):
    real.approve(real.propose().path)
    folder = real.folder / "policy" / FOLDER
    for name, content in (("a.yaml", b"\xff\xfe"), ("b.yaml", b"[1, 2"), ("c.yaml", b"soort: iets"), ("d.yaml", b"")):
        (folder / name).write_bytes(content)
    (folder / "z.yaml.bob.minisig").write_text("geen handtekening")
    assert reasons(real) == {}


# The norms themselves.


def test_norms_that_nobody_signed_or_that_changed_are_refused(real):
    assert approved_norms(real.settings).versie == "toets-1"
    change_norms(real, "minimum: 5", "minimum: 7")
    with pytest.raises(ApprovalError, match=r"changed after bob approved it.*role normen.*privacy approve"):
        approved_norms(real.settings)
    for path in (real.folder / "policy").glob("*.minisig"):
        path.unlink()
    with pytest.raises(ApprovalError, match=r"normen\.yaml is not approved"):
        approved_norms(real.settings)


def test_the_sample_s_norms_are_an_example_and_the_ledger_says_so(factory):
    approved_norms(factory.settings)
    assert factory.ledger.last("approval", "normen.yaml").payload["person"] == "voorbeeld"


def test_a_real_factory_does_not_become_a_sample_to_go_without(real):
    real.let_go()
    real.release("intern")
    real.settings = real.settings.model_copy(update={"sample": True})
    with pytest.raises(ApprovalError, match="released real figures, so it is no sample"):
        real.release("intern")


def test_a_signature_anchors_the_ledger(real):
    """A ledger rolled back to before someone signed lacks what she saw, and nobody can sign that away for her."""
    ledger = real.settings.paths.ledger
    before = {path: path.read_bytes() for path in ledger.parent.iterdir()}
    real.ledger.append("waiver", "regios_compleet", {"reden": "proef", "tot": "2099-01-01"})
    real.approve(real.propose().path)
    for path in ledger.parent.iterdir():
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    with pytest.raises(LedgerError, match="restore the newest backup"):
        approved_norms(real.settings)


def test_a_forged_signature_anchors_nothing(real):
    other = minisign.KeyPair.generate()
    folder: Path = real.folder / "policy"
    comment = f"datafabriek normen bob 2026-01-01T00:00:00+00:00 99:{'a' * 64}"
    forged = other.secret_key.sign((folder / "normen.yaml").read_bytes(), trusted_comment=comment)
    (folder / "normen.yaml.cees.minisig").write_bytes(bytes(forged))
    assert approved_norms(real.settings).versie == "toets-1"


# A night: what is covered goes out, what is not stays as it was.


def test_a_night_releases_what_is_covered_and_keeps_the_last_good_version_of_the_rest(real, ask):
    with pytest.raises(GateError, match=r"nothing can be released to intern: .*release propose intern"):
        real.release("intern")
    real.let_go()
    first, _ = real.release("intern")
    real.zzp({})
    real.specs[TABLE] = real.specs[TABLE] | {"levels": ["WK", "GM"]}
    real.manifest()
    real.approve(real.propose(tables=["zzp_per_regio"]).path)
    second, is_new = real.release("intern")
    assert is_new
    states = {name: (facts["staat"], facts.get("uit")) for name, facts in second.record["tabellen"].items()}
    assert states == {
        TABLE: ("verouderd", first.id),
        "zzp_per_regio": ("actueel", None),
        "zzp_per_sector": ("ontbreekt", None),
    }
    assert "de spec" in second.record["tabellen"][TABLE]["reden"]
    assert ask(second, f"SELECT count(*) FROM {TABLE} WHERE regio_niveau = 'BU'")[0][0] > 0, "as it was approved"
    assert recheck(second, real.ledger) == []
    assert set(second.record["goedkeuring"]["tabellen"]) == {TABLE, "zzp_per_regio"}


def test_a_release_keeps_its_approvals_and_they_can_be_checked_again(real):
    real.let_go()
    release, _ = real.release("intern")
    told = release.record["goedkeuring"]
    assert told["gevraagd"]
    assert not told["voorbeeld"]
    assert [(item["door"], item["functie"]) for item in told["normen"]] == [("bob", "functie van bob")]
    facts = told["tabellen"][TABLE]
    assert facts["voorgesteld_door"] == "anna"
    assert [item["door"] for item in facts["goedgekeurd"]] == ["bob"]
    assert recheck(release, real.ledger) == []
    for path in (real.folder / "policy" / FOLDER).iterdir():
        path.unlink()
    real.people(leveringen=["cees"], normen=["bob"])
    assert recheck(release, real.ledger) == [], "whatever became of the policy folder since"


def test_what_was_carried_over_keeps_its_approval_though_a_key_was_renewed(real):
    real.let_go()
    first, _ = real.release("intern")
    real.zzp({})
    (real.folder.parent / "bob.key").unlink()
    real.people(leveringen=["anna", "bob", "cees"], normen=["bob"])
    real.sign_norms()
    assert "de goedkeuring geldt niet" in reasons(real)[TABLE]
    real.approve(real.propose(tables=["zzp_per_regio"]).path)
    second, _ = real.release("intern")
    assert second.record["tabellen"][TABLE]["uit"] == first.id
    told = second.record["goedkeuring"]["tabellen"]
    assert told[TABLE]["sleutels"]["bob"] != told["zzp_per_regio"]["sleutels"]["bob"]
    assert recheck(second, real.ledger) == []


def test_what_was_carried_over_from_before_approval_was_asked_is_in_order(real):
    change_norms(real, "intern: {", "intern: {goedkeuring: niet, ")
    real.sign_norms()
    first, _ = real.release("intern")
    assert not first.record["goedkeuring"]["gevraagd"]
    change_norms(real, "goedkeuring: niet, ", "")
    real.sign_norms()
    second, _ = real.release("intern")
    assert second.record["goedkeuring"]["gevraagd"]
    assert second.record["tabellen"][TABLE]["uit"] == first.id
    assert recheck(second, real.ledger) == []


def test_the_sample_says_in_its_record_that_nobody_approved_it(factory):
    release, _ = factory.release("open")
    assert release.record["goedkeuring"] == {"gevraagd": False, "voorbeeld": True, "normen": [], "tabellen": {}}
    assert recheck(release, factory.ledger) == []


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (
            lambda r: next(r.folder.glob("goedkeuringen/*.bob.minisig")).unlink(),
            "not approved by whom the record names",
        ),
        (lambda r: next(r.folder.glob("goedkeuringen/*.anna.minisig")).unlink(), "not signed by who proposed it"),
        (lambda r: next(r.folder.glob("goedkeuringen/*.yaml")).unlink(), "cannot be read"),
        (lambda r: r.record["goedkeuring"]["tabellen"].clear(), "without an approval"),
        (lambda r: r.record["goedkeuring"]["tabellen"][TABLE].update(goedgekeurd=[]), "not approved by whom"),
        (lambda r: r.record["goedkeuring"]["tabellen"][TABLE].update(vingerafdruk="0"), "no proposal of this table"),
        (lambda r: r.record.update(doelgroep="open"), "no proposal of this table for open"),
        (lambda r: r.record["goedkeuring"]["tabellen"][TABLE]["sleutels"].pop("bob"), "cannot be used"),
        (lambda r: r.record["goedkeuring"]["tabellen"][TABLE].pop("sleutels"), "cannot be used"),
    ],
    ids=["signature", "proposer", "proposal", "record", "approvers", "fingerprint", "audience", "a key", "all keys"],
)
def test_what_was_done_to_enclosed_approvals_shows(real, attack, told):
    real.let_go()
    release, _ = real.release("intern")
    attack(release)
    (found,) = recheck(release, real.ledger)
    assert told in found


def test_an_approval_with_a_key_that_nobody_was_known_by_shows(real):
    """A release made elsewhere, with keys of its own, is in itself in order; the ledger knows none of it."""
    real.let_go()
    release, _ = real.release("intern")
    path = next(release.folder.glob("goedkeuringen/*.yaml"))
    for person in ("anna", "bob"):
        pair = minisign.KeyPair.generate()
        role = "voorstel" if person == "anna" else "leveringen"
        comment = f"datafabriek {role} {person} 2026-01-01T00:00:00+00:00"
        signature = path.with_name(f"{path.name}.{person}.minisig")
        signature.chmod(0o600)
        signature.write_bytes(bytes(pair.secret_key.sign(path.read_bytes(), trusted_comment=comment)))
        release.record["goedkeuring"]["tabellen"][TABLE]["sleutels"][person] = pair.public_key.to_base64().decode()
    (found,) = recheck(release, real.ledger)
    assert "the ledger knows of no approval" in found


def test_a_withdrawn_table_needs_an_approval_that_came_after(real):
    real.let_go()
    release, _ = real.release("intern")
    withdraw(real.settings.paths, real.ledger, "intern", release.id, "verkeerde peildatum", "proef")
    assert "na de goedkeuring ingetrokken" in reasons(real)[TABLE]
    change_norms(real, "intern: {", "intern: {goedkeuring: niet, ")
    assert TABLE in reasons(real), "whatever the norms ask"
    change_norms(real, "goedkeuring: niet, ", "")
    filed = next((real.folder / "policy" / FOLDER).glob("*.yaml"))
    real.approve(filed)
    assert reasons(real) == {}
    again, is_new = real.release("intern")
    assert is_new
    assert again.id != release.id
    assert again.content == release.content
    assert recheck(again, real.ledger) == []


def test_an_unsigned_norm_stops_a_release_that_was_ready(real):
    real.let_go()
    real.candidate("intern")
    change_norms(real, "minimum: 10", "minimum: 15")
    for deed in (lambda: release_candidate(real.settings, "intern"), lambda: real.candidate("intern")):
        with pytest.raises(ApprovalError, match="changed after bob approved it"):
            deed()
    assert releases(real.settings.paths) == []


def test_a_release_that_was_ready_before_a_withdrawal_does_not_go_out_after_it(real):
    """It may show what was withdrawn, and its approvals were given before anyone knew."""
    real.let_go()
    first, _ = real.release("intern")
    real.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": 44}}, unknown=12)
    real.candidate("intern")
    withdraw(real.settings.paths, real.ledger, "intern", first.id, "toets: te vroeg", "bob")
    with pytest.raises(ReleaseError, match="a release was withdrawn since it was made"):
        release_candidate(real.settings, "intern")
    with pytest.raises(GateError, match="na de goedkeuring ingetrokken"):
        real.candidate("intern")


def test_an_approval_that_lapses_stops_a_release_that_was_ready(real):
    filed = real.approve(real.propose().path)
    real.candidate("intern")
    filed.path.with_name(f"{filed.path.name}.bob.minisig").unlink()
    with pytest.raises(ReleaseError, match=r"bijstand_per_regio: niet goedgekeurd"):
        release_candidate(real.settings, "intern")
    assert releases(real.settings.paths) == []
