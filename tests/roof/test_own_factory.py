"""A factory of one's own, walked as its README says: from `init` to a query on what everyone may see.

CBS is the sample's stand-in, the deliveries are the sample's, all else is what a user does at the command line.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from datafabriek.sample.cbs import store
from datafabriek.sample.server import StandIn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

Start = Callable[..., subprocess.Popen[str]]

SETTLED = {
    "versie": '"2026-1"',
    "vastgesteld_op": "2026-01-05",
    "vastgesteld_door": "college",
    "omschrijving": "statistiek",
    "grondslag": "Participatiewet art. 78",
    "verwerkingsactiviteit": "VA-1",
    "bewaartermijn_maanden": "240",
    "herziening_maximaal": "25",
}
NORMS = {"intern": {"minimum": 5, "afronding": 5, "bescherming": 3}, "open": {"minimum": 10, "bescherming": 5}}
PASSWORD = "een lang wachtwoord"


@pytest.fixture(scope="module")
def cbs() -> Iterator[StandIn]:
    with StandIn(store((2019, 2020))) as server:
        yield server


class Shell:
    """Someone at the command line, in the factory's folder."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start, self.folder = start, folder

    def __call__(self, *arguments: str, typed: str = "", code: int = 0) -> str:
        process = self._start(self.folder, *arguments)
        out, err = process.communicate(typed, timeout=600)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err
        return " ".join((out + err).split())


@pytest.fixture
def shell(tmp_path: Path, start: Start, cbs: StandIn) -> Shell:
    elsewhere = Shell(start, tmp_path)
    elsewhere("init", "eigen", "--gemeente", "518", "--gemeente", "GM1916", "--provincie", "PV28", "--name", "Eigen")
    folder = tmp_path / "eigen"
    text = (folder / "factory.yaml").read_text()
    text = re.sub(r"kwb_years: .*", f"kwb_years: [2019, 2020]\n  odata4_url: {cbs.odata4}", text)
    text = text.replace("cbs:\n", f"cbs:\n  odata3_url: {cbs.odata3}\n  derden_url: {cbs.derden}\n")
    begin, end = text.index("deliveries:"), text.index("schedule:")
    listed = re.sub(r"^  # ", "  ", text[begin:end], flags=re.MULTILINE)
    listed = re.sub(r"expected_from: .*", 'expected_from: "2020-01"\n    expected_until: "2020-12"', listed)
    (folder / "factory.yaml").write_text(text[:begin] + listed + text[end:])
    return Shell(start, folder)


def settle(policy: Path, keys: dict[str, str]) -> None:
    """Fill in what only the organisation can: the purposes, the norms, who may sign what."""
    purposes = re.sub(r"^( +)# ", r"\1", (policy / "doelen.yaml").read_text(), flags=re.MULTILINE)
    norms = (policy / "normen.yaml").read_text()
    audiences = json.dumps({name: {"afronding": 5, **each} for name, each in NORMS.items()})
    norms = re.sub(r"doelgroepen:\n(?: .*\n)+", f"doelgroepen: {audiences}\n", norms)
    for name, text in (("doelen", purposes), ("normen", norms)):
        (policy / f"{name}.yaml").write_text(
            re.sub(r"^( *)(\w+):(?= *(?:#|$))", lambda key: f"{key[0]} {SETTLED.get(key[2], '')}", text, flags=re.M)
        )
    persons = {name: {"sleutel": key} for name, key in keys.items()}
    roles = {"grondslagen": ["fg"], "normen": ["directeur"], "leveringen": ["analist", "directeur"]}
    settled = f"personen: {json.dumps(persons)}\nrollen: {json.dumps(roles)}\n"
    roles_file = policy / "rollen.yaml"
    roles_file.write_text(roles_file.read_text().replace("personen: {}\n", "").replace("rollen: {}\n", settled))


def test_a_new_factory_reaches_its_first_open_release(
    shell: Shell, tmp_path: Path, mailbox: tuple[int, list[str]], webhook: tuple[int, list[dict[str, Any]]]
) -> None:
    (mail_port, letters), (hook_port, posted) = mailbox, webhook
    mail = f"{{to: [a@b.nl], sender: f@b.nl, smtp_host: 127.0.0.1, smtp_port: {mail_port}, starttls: false}}"
    with (shell.folder / "factory.yaml").open("a") as file:
        file.write(f"alerts: {{mail: {mail}, webhook: 'http://127.0.0.1:{hook_port}/x'}}\n")
    keys, typed = {name: tmp_path / f"{name}.key" for name in ("fg", "analist", "directeur")}, f"{PASSWORD}\n"
    public = {name: shell("privacy", "new-key", str(key), typed=typed).split()[-1] for name, key in keys.items()}
    settle(shell.folder / "policy", public)
    shell("sample", "deliveries", str(tmp_path / "leveringen"), "--scale", "0.1")
    inbox = shell.folder / ".datafabriek" / "inbox"

    # nothing is taken in on a ground that nobody signed, and what was dropped stays where it is
    shutil.copytree(tmp_path / "leveringen", inbox)
    assert "datafabriek privacy approve" in shell("run", code=1)
    assert len([path for path in inbox.rglob("*") if path.is_file()]) == 14
    # of what failed and of what is late, each who should know hears once
    assert [each["soort"] for each in posted] == ["run_mislukt", "levering_te_laat"]
    assert len(letters) == len(posted)
    assert posted[0]["stappen"] == ["raw_leveringen.bewaring"]
    assert len(posted[1]["leveringen"]) == 12
    assert "not of someone with the role" in shell(
        "privacy", "approve", "policy/doelen.yaml", "--key", str(keys["analist"]), typed=typed, code=2
    )
    shell("privacy", "approve", "policy/doelen.yaml", "--key", str(keys["fg"]), typed=typed)
    shell("privacy", "approve", "policy/normen.yaml", "--key", str(keys["directeur"]), typed=typed)

    # deliveries come in and models are made; nothing goes out that nobody approved
    told = shell("run", code=1)
    assert "missing bus 2020-08" in told
    assert "datafabriek release propose open" in told
    assert [path for path in inbox.rglob("*") if path.is_file()] == []
    for audience in NORMS:
        told = shell("release", "propose", audience, "--key", str(keys["analist"]), typed=typed)
        (proposal,) = set(re.findall(r"policy/leveringen/\S+\.yaml", told))
        refused = shell("release", "approve", proposal, "--key", str(keys["analist"]), typed=typed, code=2)
        assert "someone else with the role leveringen approves it" in refused
        shell("release", "approve", proposal, "--key", str(keys["directeur"]), typed=typed)

    told = shell("run")
    assert re.search(r"release open-\S+ \(new\)", told)
    file = shell.folder / ".datafabriek" / "published" / "open" / "datafabriek.duckdb"
    with duckdb.connect(str(file), read_only=True) as connection:
        for table, indicator in (
            ("bijstand_per_regio", "bijstand_per_1000_inwoners"),
            ("zzp_per_regio", "zzp_woonachtig_per_1000_inwoners"),
        ):
            rows = connection.execute(
                f"SELECT teller, noemer, waarde FROM {table} WHERE indicator = ? AND regio_niveau = 'WK' "
                "AND gemeente_code = 'GM1916' AND status = 'afgerond'",
                [indicator],
            ).fetchall()
            assert rows
            for count, inhabitants, rate in rows:
                assert count == 0 or count >= 10
                assert count % 5 == 0
                assert float(rate) == pytest.approx(1000 * count / inhabitants, abs=0.006)
        marked = connection.execute("SELECT waarde FROM release_info WHERE naam = 'voorbeeld'").fetchall()
    assert marked == [("nee",)]
    assert "all in order" in shell("release", "verify")

    # a night in which nothing changed makes no new release
    report = json.loads(shell("run", "--json"))
    assert report["ok"]
    assert [event for event in report["events"] if event["kind"] == "release"] == []

    # no alert names a person, a file, or a number that may be of someone
    told = "".join(letters) + json.dumps(posted)
    lines = (tmp_path / "leveringen" / "brp" / "brp_20201231.csv").read_text().splitlines()[1:2000]
    assert [line.split(";")[0] for line in lines if len(bsn := line.split(";")[0]) == 9 and bsn in told] == []
    assert "brp_2020" not in told
