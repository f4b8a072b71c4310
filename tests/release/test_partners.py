"""Partners: third parties under an agreement, who get the tables that it names, and may show them to each other."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import pytest
import yaml

from assets.release.agreements import AgreementError
from assets.release.assets import release_candidate, served
from assets.release.blocks import Block, blocks_of, read_parts
from assets.release.evidence import audited
from assets.release.history import History, seal
from assets.release.marts import entitled, read_marts
from assets.release.proposals import describe
from assets.release.publish import audiences, candidate_folder, current, find_release, read_release, releases, withdraw
from assets.release.recheck import recheck
from assets.release.verify import verify
from datafabriek.status import read_status
from quality.norms import Chain, Norms, NormsError, load_norms, policy
from quality.privacy.approvals import ApprovalError
from quality.protection import parse_spec

GGD = {
    "naam": "GGD Haaglanden",
    "overeenkomst": "overeenkomst 2026-14",
    "geldig_tot": "2027-12-31",
    "tabellen": ["bijstand_per_regio"],
    "minimum": 7,
    "afronding": 5,
    "bescherming": 4,
}
UWV = GGD | {"naam": "UWV", "overeenkomst": "convenant 3", "tabellen": ["zzp_per_sector"], "minimum": 8}
COUNTS = {"BU19160000": 3, "BU19160001": 8, "BU19160002": 6, "BU19160100": 12, "BU19160101": 11, "BU19160102": 14}


def norms(**partners):
    """normen.yaml with these partners between intern and open."""
    inner = {"intern": {"minimum": 5, "afronding": 5, "bescherming": 3}}
    outer = {"open": {"minimum": 10, "afronding": 5, "bescherming": 5}}
    return {
        "versie": "toets-1",
        "vastgesteld_op": "2026-01-01",
        "vastgesteld_door": "de toets",
        "doelgroepen": inner | {f"partner_{name}": own for name, own in partners.items()} | outer,
        "herziening_maximaal": "geen",
        "kwaliteit": {"onbekende_buurt_pct": 20},
    }


@pytest.fixture
def shared(factory):
    """A sample factory with two partners, one for bijstand and one for sectors."""
    factory.norms(yaml.safe_dump(norms(ggd=GGD, uwv=UWV), sort_keys=False))
    factory.bijstand({"2020-01": COUNTS}, unknown=9)
    factory.zzp({"BU19160000": 3, "BU19160001": 24}, {"WK191600": {"A": 60, "B": 4, "C": 3}})
    return factory


def test_a_partner_gets_what_its_agreement_names_and_nothing_else(shared, ask):
    release, _ = shared.release("partner_ggd")
    assert release.folder.parent.name == "partner_ggd"
    assert current(shared.settings.paths, "partner_ggd").id == release.id
    assert list(release.record["tabellen"]) == ["bijstand_per_regio"]
    files = {path.name for path in release.folder.iterdir()}
    assert not any("zzp" in name for name in files)
    query = "SELECT waarde FROM release_info WHERE onderwerp = 'release' AND naam = 'partner'"
    assert ask(release, query) == [("GGD Haaglanden",)]
    assert "overeenkomst 2026-14" in (release.folder / "index.html").read_text()
    smallest = ask(release, "SELECT min(teller) FROM bijstand_per_regio WHERE teller > 0")
    assert smallest == [(10,)], "7 may be 3 to 7 in intern's grid of 5, so the first that shows is 8 to 12"


def test_what_a_partner_sees_follows_from_what_intern_sees(shared, ask):
    query = (
        "SELECT regio_code, teller FROM bijstand_per_regio WHERE indicator = 'bijstand_aantal' AND status <> 'geheim'"
    )
    shown = {who: dict(ask(shared.release(who)[0], query)) for who in ("intern", "partner_ggd", "open")}
    assert shown["open"].items() <= shown["partner_ggd"].items() <= shown["intern"].items()
    assert len(shown["open"]) < len(shown["partner_ggd"]) < len(shown["intern"])


@pytest.mark.parametrize("order", [("open", "partner_ggd", "intern"), ("intern", "open", "partner_ggd")])
def test_the_order_of_releases_does_not_matter(shared, order):
    for audience in order:
        release, _ = shared.release(audience)
        assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"


def test_a_table_that_an_agreement_names_and_nobody_makes_is_told(factory):
    factory.norms(yaml.safe_dump(norms(ggd=GGD | {"tabellen": ["bijstand_per_regio", "schulden"]})))
    release, _ = factory.release("partner_ggd")
    facts = release.record["tabellen"]["schulden"]
    assert (facts["staat"], facts["reden"]) == ("ontbreekt", "model: de tabel is niet gemaakt")


def test_the_second_look_stops_a_table_that_is_not_in_the_agreement(shared):
    candidate = shared.candidate("partner_ggd")
    narrower = Norms(**norms(ggd=GGD | {"tabellen": ["zzp_per_sector"]}, uwv=UWV))
    found = verify(candidate, shared.settings, "partner_ggd", narrower, read_marts(shared.settings))
    assert ("alleen_toegestane_doelgroep", "bijstand_per_regio") in {(item.check, item.table) for item in found}


def test_a_partner_without_an_agreement_gets_nothing():
    for key in ("naam", "overeenkomst", "geldig_tot", "tabellen"):
        with pytest.raises(ValueError, match=f"partner_ggd lacks {key}"):
            Norms(**norms(ggd={name: value for name, value in GGD.items() if name != key}))
    with pytest.raises(ValueError, match="must be at least as strict as partner_ggd"):
        Norms(**norms(ggd=GGD | {"minimum": 12}))
    with pytest.raises(ValueError, match="open is no partner"):
        Norms(**(norms() | {"doelgroepen": {"open": GGD}}))
    with pytest.raises(ValueError, match="partner"):
        Norms(**(norms() | {"doelgroepen": {"partner_../open": GGD}}))


def block(period):
    """What names a count of bijstand over a period."""
    return Block("bijstand", period, "GM1916", ())


def controlled(inner, outer):
    """Norms of intern and open with these ways of rounding."""
    made = norms()
    made["doelgroepen"]["intern"] |= inner
    made["doelgroepen"]["open"] |= outer
    return made


def test_rounding_that_adds_up_is_for_whoever_comes_after_exact_figures(factory, ask):
    for inner, outer in (({}, {"afrondingsmethode": "sluitend"}), ({"afrondingsmethode": "sluitend"}, {})):
        with pytest.raises(ValueError, match="expected gewoon for both, or afronding 1 for intern"):
            Norms(**controlled(inner, outer))
    factory.norms(yaml.safe_dump(controlled({"afronding": 1}, {"afrondingsmethode": "sluitend"}), sort_keys=False))
    factory.bijstand({"2020-01": COUNTS | {"BU05180000": 31, "BU05180001": 18, "BU05180002": 44}}, unknown=13)
    query = "SELECT regio_code, teller FROM bijstand_per_regio WHERE indicator = 'bijstand_aantal' AND teller > 0"
    shown = {who: dict(ask(factory.release(who)[0], query)) for who in ("intern", "open")}
    assert shown["open"].keys() <= shown["intern"].keys()
    assert all(value % 5 == 0 and abs(value - shown["intern"][code]) < 5 for code, value in shown["open"].items())
    wijken = {code: n for code, n in shown["open"].items() if code.startswith(("WK0518", "ONB0518"))}
    assert sum(wijken.values()) == shown["open"]["GM0518"], "rounded figures add up"


def test_an_unknown_partner_gets_nothing(shared):
    with pytest.raises(NormsError, match="no norms for partner_svb"):
        shared.candidate("partner_svb")


def test_partners_are_taken_to_share_unless_the_policy_says_otherwise(shared):
    chain = Chain.of(load_norms(shared.folder / "policy"))
    assert chain.known_to("partner_ggd", partners=True) == ("partner_ggd", "partner_uwv", "open")
    assert chain.known_to("partner_ggd", partners=False) == ("partner_ggd", "open")
    assert chain.known_to("partner_uwv", partners=True) == ("partner_uwv", "open")
    assert chain.known_to("intern", partners=False) == ("intern", "partner_ggd", "partner_uwv", "open")


def test_two_partners_together_are_one_attacker(shared, monkeypatch):
    """Both hold a part of one count: the totals go to the one, the sectors to the other, and they compare."""
    both = norms(ggd=GGD | {"tabellen": ["zzp_per_regio"]}, uwv=UWV)
    told = []
    from assets.release import views

    true = views.earlier_versions

    def watched(known, *rest, **more):
        told.append({one.release for one in known})
        return true(known, *rest, **more)

    monkeypatch.setattr(views, "earlier_versions", watched)
    for share in (True, False):
        shared.norms(yaml.safe_dump(both | {"aanvaller": {"partners": share}}, sort_keys=False))
        second, _ = shared.release("partner_uwv")
        told.clear()
        first = shared.candidate("partner_ggd")
        assert first.record["tabellen"]["zzp_per_regio"]["staat"] == "actueel"
        own = told[-1]
        assert (second.id in own) is share


def test_a_period_that_was_shown_before_there_was_a_partner_keeps_its_norms(factory, ask):
    factory.bijstand({"2020-01": COUNTS}, unknown=9)
    factory.release("intern")
    factory.release("open")
    factory.norms(yaml.safe_dump(norms(ggd=GGD), sort_keys=False))
    release, _ = factory.release("partner_ggd")
    assert list(release.record["normen"]["bijstand_per_regio"]) == ["intern:5/5/gewoon/3/- open:10/5/gewoon/5/-"]
    assert ask(release, "SELECT min(teller) FROM bijstand_per_regio WHERE teller > 0") == [(15,)], "those of open"
    factory.bijstand({"2020-01": COUNTS, "2020-02": COUNTS}, unknown=9)
    fresh, _ = factory.release("partner_ggd")
    query = "SELECT periode, min(teller) FROM bijstand_per_regio WHERE teller > 0 GROUP BY 1 ORDER BY 1"
    assert ask(fresh, query) == [("2020-01", 15), ("2020-02", 10)]


def test_a_former_partner_stays_in_the_attack(shared):
    """What it got is taken back, and it still knows it: it is looked for, and its loss stops everything."""
    release, _ = shared.release("partner_ggd")
    shared.norms(yaml.safe_dump(norms(uwv=UWV), sort_keys=False))
    assert "partner_ggd" in audiences(shared.settings.paths)
    assert shared.release("intern")[0].record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
    assert current(shared.settings.paths, "partner_ggd") is None
    find_release(shared.settings.paths, release.id).folder.rename(shared.folder / "weg")
    with pytest.raises(Exception, match="restore it from a backup"):
        shared.candidate("intern")


def test_the_night_after_the_last_day_takes_back_what_lies_there(shared):
    """Whoever is released to first that night does it; the ledger says why, and the attacker keeps what it had."""
    last, _ = shared.release("partner_ggd")
    shared.norms(yaml.safe_dump(norms(ggd=GGD | {"geldig_tot": "2026-11-21"}, uwv=UWV), sort_keys=False))
    shared.candidate("intern")
    assert current(shared.settings.paths, "partner_ggd").id == last.id, "the last day still counts"
    shared.now += timedelta(days=1)
    shared.candidate("intern")
    assert not (shared.settings.paths.published / "partner_ggd").exists()
    gone = shared.ledger.events("withdrawal", "partner_ggd")
    assert [event.payload["release"] for event in gone] == [last.id]
    assert gone[-1].payload["reden"] == "overeenkomst 2026-14 gold tot en met 2026-11-21"
    assert recheck(shared.settings, None, everything=True).is_good
    with pytest.raises(AgreementError, match=r"nothing goes to partner_ggd: .* gold tot en met 2026-11-21"):
        shared.candidate("partner_ggd")
    assert not candidate_folder(shared.settings.paths, "partner_ggd").exists()
    about = History(shared.settings, shared.ledger, seal(shared.settings)).about(block("2020-01"))
    assert last.id in {version.release for _, _, version in about}, "it is known still"


def test_a_candidate_of_the_last_day_is_not_published_after_it(shared, monkeypatch):
    shared.candidate("partner_ggd")
    monkeypatch.setattr("assets.release.assets.today", lambda _: date(2028, 1, 1))
    with pytest.raises(AgreementError, match="gold tot en met 2027-12-31"):
        release_candidate(shared.settings, "partner_ggd")


def test_norms_that_nobody_approved_extend_no_agreement(real):
    """Who may write normen.yaml sets another last day: until that is signed the old one counts."""
    short = norms(ggd=GGD | {"geldig_tot": "2026-11-25"})
    real.norms(yaml.safe_dump(short, sort_keys=False))
    real.sign_norms()
    real.let_go("partner_ggd")
    real.release("partner_ggd")
    real.norms(yaml.safe_dump(norms(ggd=GGD), sort_keys=False))
    with pytest.raises(ApprovalError):
        real.candidate("partner_ggd")
    assert current(real.settings.paths, "partner_ggd") is not None, "its last day has not passed"
    real.now += timedelta(days=5)
    with pytest.raises(ApprovalError):
        real.candidate("intern")
    assert current(real.settings.paths, "partner_ggd") is None


def test_nothing_is_proposed_or_approved_under_an_agreement_that_is_over(real, monkeypatch):
    real.norms(yaml.safe_dump(norms(ggd=GGD), sort_keys=False))
    filed = real.propose("partner_ggd")
    monkeypatch.setattr("assets.release.proposals.today", lambda _: date(2028, 1, 1))
    with pytest.raises(AgreementError):
        real.approve(filed.path)
    with pytest.raises(AgreementError):
        real.propose("partner_ggd")


def test_an_approval_is_of_one_audience(real):
    real.norms(yaml.safe_dump(norms(ggd=GGD), sort_keys=False))
    real.sign_norms()
    real.let_go("intern")
    marts, own = read_marts(real.settings), load_norms(real.folder / "policy")
    with pytest.raises(Exception, match="niet goedgekeurd voor partner_ggd"):
        real.candidate("partner_ggd")
    prints = {
        describe(real.settings, who, entitled(marts, own, who), own).tabellen["bijstand_per_regio"].vingerafdruk
        for who in ("intern", "partner_ggd")
    }
    assert len(prints) == 2
    real.let_go("partner_ggd")
    assert read_release(real.candidate("partner_ggd").folder).record["partner"]["naam"] == "GGD Haaglanden"


def test_a_partner_has_assets_a_state_and_a_place_in_the_lists(shared):
    assert served(shared.settings) == ("intern", "partner_ggd", "partner_uwv", "open")
    release, _ = shared.release("partner_ggd")
    assert [state.audience for state in read_status(shared.settings).releases] == ["partner_ggd"]
    assert find_release(shared.settings.paths, "partner_ggd").id == release.id
    assert [item.id for item in releases(shared.settings.paths)] == [release.id]
    report = recheck(shared.settings, None, everything=True)
    assert (report.is_good, [item.audience for item in report.releases]) == (True, ["partner_ggd"])


def test_a_partners_release_can_be_taken_back(shared):
    release, _ = shared.release("partner_ggd")
    paths, ledger = shared.settings.paths, shared.ledger
    assert withdraw(paths, ledger, "partner_ggd", release.id, "in de verkeerde map gezet", "anna") is None
    assert current(paths, "partner_ggd") is None
    assert not (paths.published / "partner_ggd").exists()


@pytest.mark.parametrize("order", [("partner_uwv", "partner_ggd"), ("partner_ggd", "partner_uwv")])
def test_what_two_partners_hold_together_gives_nothing_away(shared, order):
    """The totals of the one beside the sectors of the other, attacked as one table under the norms of the first."""
    both = norms(ggd=GGD | {"tabellen": ["zzp_per_regio"]}, uwv=UWV)
    shared.norms(yaml.safe_dump(both, sort_keys=False))
    held = {}
    for audience in order:
        release, _ = shared.release(audience)
        (name,) = release.record["tabellen"]
        spec = parse_spec(shared.specs[name])
        with duckdb.connect(str(release.database), read_only=True) as connection:
            held[name] = read_parts(connection, name, name, spec, spec.lowest)
    own = Chain.of(load_norms(shared.folder / "policy"))
    rules = policy(own.steps("partner_ggd")[-1][1], own.least_shown("partner_ggd")[-1], suspects=True)
    attacked = 0
    for block in blocks_of(held):
        system, _, result = audited(block, rules)
        attacked += int(system.hidden.sum())
        assert result.narrowest >= GGD["bescherming"]
    assert attacked, "nothing is hidden, so nothing is tried"
