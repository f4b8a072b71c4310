"""factory.yaml: what is read, what the environment overrides, and how a mistake is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datafabriek.cli.key import PASSPHRASE_ENV
from datafabriek.config import FACTORY_ENV, SAMPLE_FACTORY, SPECIAL_VARIABLES, ConfigError, load_settings
from datafabriek.folders import private_folder
from datafabriek.sample.assets import SCALE_ENV
from quality.privacy.keys import COMMAND_ENV, KEY_ENV

GOOD = """\
name: Proefgemeente
region:
  gemeenten: [GM0518]
  provincie: PV28
deliveries:
  brp:
  bus: {expected_from: "2024-01"}
cbs:
  tables:
    - 37789ksz
    - {id: 03759ned, filter: "Perioden ge '2020JJ00'"}
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    path = tmp_path / "factory.yaml"
    path.write_text(GOOD)
    return path


def test_reads_a_factory_and_places_its_home_beside_it(factory: Path) -> None:
    settings = load_settings(factory)
    assert settings.paths.root == factory.parent / ".datafabriek"
    assert settings.paths.warehouse == factory.parent / ".datafabriek/warehouse/warehouse.duckdb"
    assert [table.id for table in settings.cbs.tables] == ["37789ksz", "03759ned"]
    assert settings.deliveries["brp"].contract is None
    assert settings.policy_folder is None


def test_the_environment_wins_over_the_file(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFABRIEK_HOME", "elders")
    monkeypatch.setenv("DATAFABRIEK_CBS__ODATA4_URL", "http://127.0.0.1:8000/odata/v1/")
    settings = load_settings(factory)
    assert settings.paths.root == factory.parent / "elders"
    assert settings.cbs.odata4_url == "http://127.0.0.1:8000/odata/v1"
    assert settings.cbs.tables[0].id == "37789ksz", "one overridden key leaves its neighbours as they were"


def test_roots_can_be_set_apart(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFABRIEK_ROOTS__VAULT", "/srv/kluis")
    paths = load_settings(factory).paths
    assert paths.vault_database == Path("/srv/kluis/vault.duckdb")
    assert paths.key_file == factory.parent / ".datafabriek/keys/master.key"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("name:", "nmae:"), "line 1: `nmae` is not a key of factory.yaml; did you mean `name`?"),
        (("provincie: PV28", "provincie: Zuid-Holland"), "line 4: `region.provincie`"),
        (("[GM0518]", "[GM518]"), "line 3: `region.gemeenten.0`"),
        (("  tables:", "  odata4_url: datasets.cbs.nl\n  tables:"), "starts with http:// or https://"),
        (("  bus: {", "  bus: {verwacht: 1, "), "`deliveries.bus.verwacht` is not a key"),
        (("  provincie: PV28\n", ""), "`region.provincie` is missing"),
        (("[GM0518]", "GM0518"), "line 3: `region.gemeenten`: expected a list"),
        (("  provincie", "  gemeenten: [GM1916]\n  provincie"), "line 4: `region.gemeenten` stands on line 3 already"),
        (("cbs:", "schedule: {timezone: Mars/Phobos}\ncbs:"), "`Mars/Phobos` is no time zone"),
        (("cbs:", "schedule: {cron: '0 24 * * *'}\ncbs:"), "`24` is no hour of a cron line (from 0 to 23)"),
        (("cbs:", "schedule: {cron: '*/0 3 * * *'}\ncbs:"), "`*/0` is no minute"),
        (("cbs:", "resources: {memory_limit: veel}\ncbs:"), "expected a text such as 1GB"),
    ],
    ids=[
        *("misspelt key", "wrong value", "wrong item", "no address", "nested key", "missing key"),
        *("no list", "twice", "time zone", "cron", "cron step", "pattern"),
    ],
)
def test_a_mistake_is_told_with_its_line(factory: Path, change: tuple[str, str], told: str) -> None:
    factory.write_text(GOOD.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_settings(factory)
    assert told in str(caught.value)
    assert str(factory) in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"), [("DATAFABRIEK_CBS__TIMEOUT_S", "soon"), ("DATAFABRIEK_REGION__GEMEENTEN", '["Den Haag"]')]
)
def test_a_mistake_in_the_environment_names_the_variable(
    factory: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"environment variable {variable}"):
        load_settings(factory)


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 0-6,22 1,15 jan-MAR mon", "30 4 * * 1-5/2", "59 23 31 12 7"])
def test_a_good_cron_line_is_left_as_it_is(factory: Path, cron: str) -> None:
    factory.write_text(GOOD + f"schedule: {{cron: '{cron}'}}\n")
    assert load_settings(factory).schedule.cron == cron


def test_an_empty_variable_is_none(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFABRIEK_HOME", "")
    assert load_settings(factory).paths.root == factory.parent / ".datafabriek"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"name: [", "not valid YAML"), (b"- a list", "at the top level"), (b"name: \xff", "not UTF-8")],
)
def test_no_factory_file_at_all(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "factory.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        load_settings(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "factory.yaml")


def test_without_a_factory_file_the_sample_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.sample
    assert settings.source == SAMPLE_FACTORY
    assert settings.paths.root == tmp_path / ".datafabriek"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("elders.yaml")])
def test_a_factory_file_that_cannot_be_read_is_never_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "factory.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings()


def test_the_home_is_closed_to_others(factory: Path) -> None:
    paths = load_settings(factory).paths
    paths.create()
    for folder in (paths.root, paths.vault, paths.keys, paths.warehouse_root):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_folders_above_the_home_are_closed_to_others_too(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


@pytest.mark.parametrize(
    ("variable", "value"), [("CBS__KWB_YEARS", "2019,2020"), ("REGION__GEMEENTEN", "GM0518"), ("REGION", "x")]
)
def test_a_list_in_the_environment_that_is_no_json_is_told(
    factory: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"DATAFABRIEK_{variable}", value)
    with pytest.raises(ConfigError, match=r"no JSON|mistake"):
        load_settings(factory)


def test_a_key_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "factory.yaml"
    path.write_text("1: x\n")
    with pytest.raises(ConfigError, match="at the top level"):
        load_settings(path)


def test_a_named_folder_that_is_not_there_is_told(factory: Path) -> None:
    factory.write_text(GOOD + "contracts: contractn\n")
    with pytest.raises(ConfigError, match=r"line 12: `contracts` names contractn, which does not exist"):
        load_settings(factory)


def test_a_certificate_counts_from_the_factory_file(factory: Path) -> None:
    (factory.parent / "ca.pem").write_text("")
    factory.write_text(GOOD.replace("cbs:\n", "cbs:\n  ca_bundle: ca.pem\n"))
    assert load_settings(factory).cbs.ca_bundle == factory.parent / "ca.pem"


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("REGIO__PROVINCIE", "DATAFABRIEK_REGIO__PROVINCIE: `REGIO` is not a key .*did you mean `REGION`"),
        ("HOEM", "did you mean `HOME`"),
        ("MASTERKEY", "did you mean `MASTER_KEY`"),
    ],
)
def test_a_misspelt_variable_is_told(factory: Path, monkeypatch: pytest.MonkeyPatch, variable: str, told: str) -> None:
    monkeypatch.setenv(f"DATAFABRIEK_{variable}", "x")
    with pytest.raises(ConfigError, match=told):
        load_settings(factory)


def test_variables_that_the_factory_reads_itself_or_that_are_ones_own_are_left(
    factory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {FACTORY_ENV, KEY_ENV, COMMAND_ENV, PASSPHRASE_ENV, SCALE_ENV} <= SPECIAL_VARIABLES
    for variable in (KEY_ENV, COMMAND_ENV, PASSPHRASE_ENV, SCALE_ENV, "DATAFABRIEK_SMTP_PASSWORD"):
        monkeypatch.setenv(variable, "x")
    assert load_settings(factory).name == "Proefgemeente"
