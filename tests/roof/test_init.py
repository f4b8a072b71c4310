"""A factory of one's own: what `init` makes can be read, and refuses what it must."""

from __future__ import annotations

import re
import textwrap
from datetime import date
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from datafabriek.cli import app
from datafabriek.cli.init import TEMPLATES, make
from datafabriek.config import ConfigError, load_settings
from quality.contracts import model
from quality.contracts.model import ContractError, load
from quality.norms import NORMS_FILE, NormsError, load_norms
from quality.privacy import approvals, linkages, policy
from quality.privacy.policy import PolicyError, load_policy
from quality.repairs import RULES


def test_a_new_factory_can_be_read(tmp_path: Path) -> None:
    make(tmp_path / "eigen", 'Fabriek "Zuid": een', ["GM0518", "GM1916"], "PV28")
    settings = load_settings(tmp_path / "eigen" / "factory.yaml")
    assert settings.name == 'Fabriek "Zuid": een'
    assert settings.region.gemeenten == ("GM0518", "GM1916")
    assert not settings.sample
    assert settings.paths.root == tmp_path / "eigen" / ".datafabriek"
    assert settings.policy_folder == tmp_path / "eigen" / "policy"


def test_its_readme_takes_a_new_kind_of_delivery_as_far_as_its_table(tmp_path: Path) -> None:
    """By what stands in it alone: a draft from an example, the purpose as it is written there, and the check."""
    make(tmp_path / "eigen", "Eigen", ["GM0518"], "PV28")
    readme = (tmp_path / "eigen" / "contracts" / "README.md").read_text()
    example = tmp_path / "vergunningen_202405.csv"
    rows = "".join(f"V{n};{bsn};WK05180{n % 3}\n" for n, bsn in enumerate(["999990019", "999990020", "999990032"] * 9))
    example.write_text(f"nummer;bsn;wijk\n{rows}")
    target = tmp_path / "eigen" / "contracts" / "vergunningen.yaml"
    assert CliRunner().invoke(app, ["contract", "new", str(example), "--to", str(target)]).exit_code == 0
    purposes, bound = (yaml.safe_load(textwrap.dedent(each.split("```")[0])) for each in readme.split("```yaml\n")[1:])
    draft = yaml.safe_load(target.read_text())
    draft["customProperties"] = [p for p in draft["customProperties"] if p["property"] != "doelen"] + purposes
    target.write_text(yaml.safe_dump(draft))
    with pytest.raises(ContractError, match="any text in `wijk` would leave the vault"):
        load("vergunningen", (target.parent,))
    draft["schema"][0]["properties"][-1] |= bound
    target.write_text(yaml.safe_dump(draft))
    contract = load("vergunningen", (target.parent,))
    assert [column.name for column in contract.purposes["parkeren"].columns] == ["persoon_pseudoniem", "wijk"]
    for told in (*RULES, *model.DERIVATIONS, *model.PRIVACY_CLASSES, *model.FORMATS, *model.CORRECTIONS):
        assert told in readme


def test_a_new_factory_releases_nothing_until_its_norms_are_set(tmp_path: Path) -> None:
    make(tmp_path / "eigen", "Eigen", ["GM0518"], "PV28")
    with pytest.raises(NormsError, match=r"normen\.yaml"):
        load_norms(load_settings(tmp_path / "eigen" / "factory.yaml").policy_folder)


def test_the_command_makes_it(tmp_path: Path) -> None:
    target = str(tmp_path / "eigen")
    result = CliRunner().invoke(app, ["init", target, "--gemeente", "518", "--provincie", "pv28", "--name", "X"])
    assert result.exit_code == 0, result.output
    assert load_settings(tmp_path / "eigen" / "factory.yaml").region.provincie == "PV28"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--gemeente", "Den Haag", "--provincie", "PV28"], "GM0518"),
        (["--gemeente", "GM05", "--provincie", "PV28"], "GM and 4 digits"),
        (["--gemeente", "GM0518"], "--provincie is missing"),
        ([], "--gemeente is missing"),
    ],
)
def test_a_wrong_or_missing_code_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "eigen"), *arguments])
    assert isinstance(result.exception, ConfigError)
    assert told in str(result.exception)
    assert not (tmp_path / "eigen").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(app, ["init", str(tmp_path), "--gemeente", "GM0518", "--provincie", "PV28"])
    assert isinstance(result.exception, ConfigError)
    assert "not empty" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


SETTLED = {
    "versie": "2026-1",
    "vastgesteld_op": "2026-01-05",
    "vastgesteld_door": "college",
    "omschrijving": "statistiek",
    "grondslag": "Participatiewet art. 78",
    "verwerkingsactiviteit": "VA-1",
    "bewaartermijn_maanden": "24",
    "naam": "van_bijstand_naar_ondernemen",
    "dpia": "DPIA-7",
    "van": "2026-01-01",
    "tot": "2026-12-31",
    "minimum": "5",
    "afronding": "5",
    "bescherming": "3",
    "herziening_maximaal": "25",
}
"""What an organisation writes behind a key that was left open."""


def _filled(text: str) -> str:
    """A template as its reader fills it in: no line is left out, and no key is left open."""
    text = re.sub(r"^koppelingen: \[\]\n", "", text, flags=re.MULTILINE)
    # lines to fill in are indented before or behind the #; explanations are not
    text = re.sub(r"^(?:( +)# |# (?=koppelingen:|bedragen:| ))", r"\1", text, flags=re.MULTILINE)
    return re.sub(r"^([ -]*)(\w+):( *#.*| *)$", _answered, text, flags=re.MULTILINE)


def _answered(line: re.Match[str]) -> str:
    return f"{line[1]}{line[2]}: {SETTLED[line[2]]}{line[3]}" if line[2] in SETTLED else line[0]


def test_every_template_can_be_filled_in_and_is_then_read(tmp_path: Path) -> None:
    folder = tmp_path / "eigen"
    make(folder, "Eigen", ["GM0518"], "PV28")
    for name in ("doelen", "koppelingen", "normen"):  # rollen.yaml stays empty: nobody signs yet
        path = folder / "policy" / f"{name}.yaml"
        path.write_text(_filled(path.read_text()))
    text = (folder / "factory.yaml").read_text()
    begin, end = text.index("deliveries:"), text.index("schedule:")
    listed = re.sub(r"^  # ", "  ", text[begin:end], flags=re.MULTILINE)
    (folder / "factory.yaml").write_text(text[:begin] + listed + text[end:])
    settings = load_settings(folder / "factory.yaml")
    assert set(settings.deliveries) == {"adressen", "brp", "bus", "bedrijven"}
    settled = load_policy(settings)
    assert settled.vastgesteld_op == date(2026, 1, 5)
    used = {name: {purpose.name for purpose in settled.allowed(load(name), name)} for name in settings.deliveries}
    assert used == {"adressen": set(), "brp": {"bijstand", "zzp"}, "bus": {"bijstand"}, "bedrijven": {"zzp"}}
    (told,) = yaml.safe_load((folder / "policy" / linkages.FILE).read_text())["koppelingen"]
    linkage = linkages.Linkage.model_validate(told)
    assert linkage.in_force(date(2026, 6, 1))
    assert [table.name for table in linkage.tables] == ["bijstand__bus", "zzp__bedrijven"]
    for table in linkage.tables:
        assert set(table.columns) <= {column.name for column in load(table.delivery).purposes[table.purpose].columns}
    assert [audience for audience, _ in load_norms(settings.policy_folder).chain()] == ["intern", "partner_ggd", "open"]
    read = {policy.FILE, linkages.FILE, approvals.FILE, NORMS_FILE}
    assert {path.name for path in (folder / "policy").iterdir()} <= read  # no file that promises what nothing reads


def test_a_policy_that_was_not_filled_in_says_what_is_lacking(tmp_path: Path) -> None:
    make(tmp_path / "eigen", "Eigen", ["GM0518"], "PV28")
    settings = load_settings(tmp_path / "eigen" / "factory.yaml")
    with pytest.raises(PolicyError, match=r"doelen\.yaml.*versie"):
        load_policy(settings)
    path = tmp_path / "eigen" / "policy" / "doelen.yaml"
    path.write_text(path.read_text().replace("versie:", "versie: 1"))
    with pytest.raises(PolicyError, match="`brp` has no retention term"):
        load_policy(settings).allowed(load("brp"), "brp")


def test_templates_name_only_commands_that_exist() -> None:
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for path in TEMPLATES.rglob("*.j2"):
        for first, second in re.findall(r"`datafabriek ([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?", path.read_text()):
            assert first in commands, path
            assert second in getattr(commands[first], "commands", {second}), path
