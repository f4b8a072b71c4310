"""The page of a release: what a reader and a privacy officer want to know, from one file that loads nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import duckdb
import pytest

from assets.release import page
from assets.release.publish import verify_files


class Reader(HTMLParser):
    """The text of a page, and every address that it names."""

    def __init__(self, html):
        super().__init__()
        self.links, self.words = [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]

    def handle_data(self, data):
        self.words.append(data)


def read(release):
    return Reader((release.folder / "index.html").read_text())


def test_it_tells_what_was_released_under_which_norms_and_approvals(real):
    real.let_go()
    real.ledger.append("cbs_load", "raw_bijstand.bus", {"tabellen": {"84799NED": {"gewijzigd": "2021-03-26T02:00:00"}}})
    release, _ = real.release("intern")
    shown = read(release)
    counts = release.record["tabellen"]["bijstand_per_regio"]["aantallen"]
    for told in (
        release.id,
        "voor de eigen organisatie (doelgroep intern)",
        "normen toets-1",
        f"bijstand_per_regio 2020-01 54 {counts['verstrekt']} {counts['afgerond']} {counts['geheim']}",
        f"{100 * counts['geheim'] / 54:.1f}%".replace(".", ","),
        "minimum 5 ",
        "De normen zijn goedgekeurd door bob, functie van bob, op ",
        "anna, 2",
        "bob, functie van bob, 2",
        "CBS StatLine 84799NED 26 maart 2021 actueel",
        "datafabriek release verify intern",
        "{}:{}".format(*release.record["logboek"]),
    ):
        assert told in shown.text, told
    assert "niemand heeft deze levering goedgekeurd" not in shown.text
    assert release.catalogue["pagina"] == "index.html"


def test_it_loads_nothing_from_elsewhere_and_every_link_leads_to_a_file_of_the_release(real):
    real.let_go()
    release, _ = real.release("intern")
    html = (release.folder / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|<iframe", html)
    links = read(release).links
    assert any(link.startswith("goedkeuringen/") for link in links)
    assert all((release.folder / link).is_file() for link in links)
    verify_files(release)


def test_it_tells_what_is_stale_what_is_missing_and_why(real):
    real.let_go()
    first, _ = real.release("intern")
    real.zzp({})
    real.dbt_results(model__f__bijstand_per_regio="error")
    real.approve(real.propose(tables=["bijstand_per_regio", "zzp_per_regio"]).path)
    second, _ = real.release("intern")
    shown = read(second)
    assert "Verouderd: bijstand_per_regio (sinds 21 november 2026)." in shown.text
    assert f"komt ongewijzigd uit levering {first.id} : model: het model" in shown.text.replace("  ", " ")
    assert "Niet in deze levering: zzp_per_sector ." in shown.text.replace("  ", " ")
    assert "zzp_per_sector ontbreekt: goedkeuring: niet goedgekeurd voor intern" in shown.text
    assert f"ligt in bewijs.zip daarvan: {first.id}" in shown.text
    real.dbt_results(model__f__bijstand_per_regio="error", model__f__zzp_per_regio="error")
    third, _ = real.release("intern")
    shown = read(third)
    assert "blokken het bewijs" not in shown.text, "all that is shown was proved in earlier releases"


def test_the_sample_says_that_it_is_one_and_asks_no_approval(factory):
    release, _ = factory.release("open")
    shown = read(release)
    assert "Voorbeeldfabriek." in shown.text
    assert "De voorbeeldfabriek vraagt niemand om goedkeuring." in shown.text
    assert "voor iedereen (doelgroep open)" in shown.text


def test_what_others_wrote_is_text_and_no_markup(factory):
    release, _ = factory.release("open")
    hostile = '<script>alert("x")</script>'
    record = json.loads(json.dumps(release.record))
    record["fabriek"] = hostile
    record["tabellen"]["bijstand_per_regio"]["reden"] = hostile
    record["tabellen"]["bijstand_per_regio"] |= {"staat": "verouderd", "sinds": "2026-01-01"}
    record["afwijkingen"] = {"regios_compleet": {"tot": "2026-12-31", "reden": hostile}}
    html = page.render(release.catalogue, record, [("norm", "minimum", hostile, None)])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 4
    assert "aanvaard tot en met 31 december 2026" in Reader(html).text


def test_it_tells_how_narrow_anyone_can_make_what_is_hidden(factory):
    release, _ = factory.release("open")
    for narrowest, told in ((4.5, "Smalste bewezen interval 4,5"), (None, None)):
        record = release.record | {"bewijs": {"blokken": 1204, "smalste_interval": narrowest}}
        text = Reader(page.render(release.catalogue, record, [])).text
        assert "van 1.204 blokken het bewijs" in text
        assert (told in text) if told else ("malste" not in text)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_a_screen_of_any_width(factory, tmp_path, width):
    """Only the wide tables scroll, each by itself: the page never does sideways."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt install chromium")
    release, _ = factory.release("open")
    measured = tmp_path / "page.html"
    probe = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    measured.write_text((release.folder / "index.html").read_text().replace("</body>", probe))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    command = [chromium, *flags, measured.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    told = re.search(r"<title>(\d+) of (\d+)</title>", found)
    assert told is not None
    assert int(told[1]) <= int(told[2])


def test_the_page_is_made_of_the_released_file_alone(factory):
    """Made again from what lies in the folder, it is the same to the letter."""
    release, _ = factory.release("open")
    with duckdb.connect(str(release.database), read_only=True) as connection:
        info = connection.execute("SELECT onderwerp, naam, waarde, toelichting FROM release_info").fetchall()
    assert page.render(release.catalogue, release.record, info) == (release.folder / "index.html").read_text()
