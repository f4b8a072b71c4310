"""Policy: what the organisation has not settled is refused, with what to fill in."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafabriek.config import Settings, load_settings
from quality.contracts.model import load
from quality.privacy.policy import PolicyError, load_policy

FACTORY = """
name: Proef
region: {gemeenten: [GM0518], provincie: PV28}
deliveries: {brp: , adressen: }
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "factory.yaml").write_text(FACTORY)
    return load_settings(tmp_path / "factory.yaml")


def test_no_policy_folder_is_told_with_where_to_make_it(settings: Settings) -> None:
    with pytest.raises(PolicyError, match=r"no policy folder.*doelen.yaml"):
        load_policy(settings)


def _write(settings: Settings, text: str) -> None:
    folder = settings.source.parent / "policy"
    folder.mkdir(exist_ok=True)
    (folder / "doelen.yaml").write_text(text)


def test_a_purpose_without_ground_is_refused(settings: Settings) -> None:
    _write(settings, "versie: proef\nleveringen: {brp: {bewaartermijn_maanden: 12}}\n")
    with pytest.raises(PolicyError, match=r"bijstand.*no lawful basis.*grondslag"):
        load_policy(settings).allowed(load("brp"), "brp")


def test_a_delivery_without_retention_is_refused(settings: Settings) -> None:
    _write(settings, "versie: proef\n")
    with pytest.raises(PolicyError, match=r"adressen.*no retention term"):
        load_policy(settings).allowed(load("adressen"), "adressen")


def test_a_delivery_outside_its_purpose_is_refused(settings: Settings) -> None:
    settled = "omschrijving: proef, grondslag: wet, verwerkingsactiviteit: VA-1"
    purpose = f"{{{settled}, leveringen: [bus], bewaartermijn_maanden: 1}}"
    _write(settings, f"versie: proef\ndoelen: {{bijstand: {purpose}}}\n")
    with pytest.raises(PolicyError, match="may not use delivery `brp`"):
        load_policy(settings).purpose("bijstand", "brp")


def test_a_misspelt_key_is_told(settings: Settings) -> None:
    _write(settings, "versie: proef\ndoelen: {zzp: {grondslag: wet, doel: x}}\n")
    with pytest.raises(PolicyError, match=r"doelen.zzp.doel"):
        load_policy(settings)


def test_the_sample_brings_its_own_and_says_that_it_is_an_example() -> None:
    policy = load_policy(load_settings())
    assert policy.voorbeeld
    for name in ("adressen", "brp", "bus", "bedrijven"):
        policy.allowed(load(name), name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# nieuw\nversie:\n", r'policy/doelen.yaml, line 2: fill in `versie` \(for example "2026-1"\)$'),
        ("versie: x\nleveringn: {}\n", r"line 2: `leveringn` is not a key here; did you mean `leveringen`\?"),
        (
            "versie: x\ndoelen:\n  zzp:\n    grondslg: wet\n",
            r"line 4: `doelen.zzp.grondslg` is not .*did you mean `grondslag`",
        ),
        ("versie: x\nleveringen:\n  brp:\n", r"line 3: fill in `leveringen.brp` \(it holds: bewaartermijn_maanden"),
        ("", "doelen.yaml is empty: it holds versie"),
    ],
)
def test_what_is_not_filled_in_or_misspelt_is_told_with_its_line(settings: Settings, text: str, told: str) -> None:
    _write(settings, text)
    with pytest.raises(PolicyError, match=told):
        load_policy(settings)
