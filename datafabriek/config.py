"""The factory's one configuration file, `factory.yaml`, and the folders that follow from it.

Belongs here: what an organisation sets, where it is read from and how a mistake in it is told.
Does not belong here: anything that opens a database or imports Dagster.

Every key can be overridden by an environment variable: ``DATAFABRIEK_`` and the path of keys joined by two
underscores, as in ``DATAFABRIEK_CBS__ODATA4_URL``. The environment wins over the file.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from datafabriek.errors import FactoryError
from datafabriek.folders import private_folder
from datafabriek.mistakes import key_lines, keys_at, near, repeated_keys, told

FACTORY_FILE = "factory.yaml"
FACTORY_ENV = "DATAFABRIEK_FACTORY"
"""Environment variable with the path of the factory.yaml in use; unset means ./factory.yaml or the sample."""

PREFIX = "DATAFABRIEK_"
SPECIAL_VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in ("FACTORY", "HOME", "MASTER_KEY", "MASTER_KEY_COMMAND", "BACKUP_PASSPHRASE", "SAMPLE_SCALE")
)
"""Environment variables that are read for what they are; every other one overrides a key of factory.yaml."""

SAMPLE_FACTORY = Path(__file__).parent / "sample" / FACTORY_FILE

ODATA4_LIVE = "https://datasets.cbs.nl/odata/v1"
ODATA3_LIVE = "https://opendata.cbs.nl"
DERDEN_LIVE = "https://dataderden.cbs.nl"


class ConfigError(FactoryError):
    """A factory.yaml that cannot be used: the message names file, line, key, what was expected and the fix."""

    exit_code = 2


def _http_url(value: str) -> str:
    value = value.rstrip("/")
    if not value.startswith(("http://", "https://")):
        raise ValueError("expected an address that starts with http:// or https://")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
GemeenteCode = Annotated[str, Field(pattern=r"^GM\d{4}$")]
TableId = Annotated[str, Field(pattern=r"^[0-9]{5}[0-9A-Za-z]{2,5}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Section(BaseModel):
    """A part of factory.yaml: an unknown key is an error, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Section):
    """Whose factory this is: the municipalities it covers and their province."""

    gemeenten: tuple[GemeenteCode, ...] = Field(min_length=1)
    provincie: Annotated[str, Field(pattern=r"^PV\d{2}$")]


class CbsTable(_Section):
    """A StatLine table that the factory takes in besides the shipped ones.

    `filter` is an OData v4 filter; `regions: true` (the default) lets a table with a region dimension be
    filtered on the factory's own regions when no filter is given.
    """

    id: TableId
    filter: str | None = None
    regions: bool = True


class Cbs(_Section):
    """Where and how CBS open data is read.

    `odata4_url` runs up to and including ``/odata/v1``; the two v3 addresses run up to the host.
    """

    odata4_url: HttpUrl = ODATA4_LIVE
    odata3_url: HttpUrl = ODATA3_LIVE
    derden_url: HttpUrl = DERDEN_LIVE
    kwb_years: tuple[Annotated[int, Field(ge=2013, le=2100)], ...] = (2019, 2020, 2021, 2022, 2023)
    tables: tuple[CbsTable, ...] = ()
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20)] = 6
    max_parallel: Annotated[int, Field(ge=1, le=8)] = 4
    ca_bundle: Path | None = None

    @field_validator("tables", mode="before")
    @classmethod
    def _ids_alone(cls, value: Any) -> Any:
        """Let a table be listed by its id alone."""
        if isinstance(value, list | tuple):
            return [{"id": item} if isinstance(item, str) else item for item in value]
        return value


class PostgresSource(_Section):
    """A query on a PostgreSQL server that makes the delivery.

    `dsn_env` names the environment variable that holds the whole connection string, so that no password stands in a
    file. In the query `:begin` and `:eind` are the first and last day of the period.
    """

    kind: Literal["postgres"]
    dsn_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    query: Annotated[str, Field(min_length=8)]
    period: Literal["current", "previous"] = "current"
    columns: dict[Name, str] = {}


class FeatureSource(_Section):
    """A layer of an OGC API Features (`ogc`) or WFS 2.0 (`wfs`) service that makes the delivery.

    `columns` names the property of a feature where it is not called as the contract's column.
    """

    kind: Literal["ogc", "wfs"]
    url: HttpUrl
    layer: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_:.-]*$")]
    output: Literal["geojson", "gml"] = "geojson"
    period: Literal["current", "previous"] = "current"
    columns: dict[Name, str] = {}
    page_size: Annotated[int, Field(ge=1, le=50_000)] = 1000
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20)] = 4


class Delivery(_Section):
    """One kind of delivery that this factory expects.

    The key in factory.yaml names the delivery; `contract` names the contract (by default the same name).
    Where it has a `source`, each run fetches it from there. Policy stands in the policy folder, not here.
    """

    contract: Name | None = None
    expected_from: Annotated[str, Field(pattern=r"^\d{4}(-\d{2})?$")] | None = None
    expected_until: Annotated[str, Field(pattern=r"^\d{4}(-\d{2})?$")] | None = None
    source: Annotated[PostgresSource | FeatureSource, Field(discriminator="kind")] | None = None


_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CRON: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    *(("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day", 1, 31, ())),
    *(("month", 1, 12, _MONTHS), ("day of the week", 0, 7, _DAYS)),
)
"""The fields of a cron line (crontab(5)): what each is called, from where to where, and its words."""


class Schedule(_Section):
    """When the nightly job runs (cron, in the named time zone), and whether it is on from the start."""

    cron: str = "0 3 * * *"
    timezone: str = "Europe/Amsterdam"
    enabled: bool = True

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        fields = value.lower().split()
        if len(fields) != len(_CRON):
            raise ValueError("expected the five fields of a cron line, as in '0 3 * * *'")
        for field, (name, first, last, words) in zip(fields, _CRON, strict=True):
            one = rf"(?:\d{{1,2}}{''.join(f'|{word}' for word in words)})"
            form = re.compile(rf"(?:\*|{one}(?:-{one})?)(?:/[1-9]\d?)?")
            numbers = re.findall(r"\d+", re.sub(r"/\d+", "", field))
            if not all(form.fullmatch(part) for part in field.split(",")) or not all(
                first <= int(number) <= last for number in numbers
            ):
                raise ValueError(f"`{field}` is no {name} of a cron line (from {first} to {last}), as in '0 3 * * *'")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"`{value}` is no time zone, as in Europe/Amsterdam") from None
        return value


class Mail(_Section):
    """Where alerts are mailed to, and through which server (`password_env` names the variable that holds it)."""

    to: tuple[str, ...] = Field(min_length=1)
    sender: str
    smtp_host: str
    smtp_port: int = 587
    starttls: bool = True
    username: str | None = None
    password_env: str | None = None


class Alerts(_Section):
    """Who hears of a failed run or a late delivery: by mail, by webhook (JSON POST), or both."""

    mail: Mail | None = None
    webhook: HttpUrl | None = None


class Roots(_Section):
    """Folders that an organisation may set apart to give each its own permissions; unset means under home."""

    vault: Path | None = None
    keys: Path | None = None
    warehouse: Path | None = None
    published: Path | None = None


class Resources(_Section):
    """What one run may use of the machine."""

    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s?(MB|GB|MiB|GiB)$")] = "1GB"
    threads: Annotated[int, Field(ge=1, le=64)] | None = None


class Home:
    """The folders and files of one factory, all derived from `home` and `roots`. Makes nothing by itself."""

    def __init__(self, root: Path, roots: Roots) -> None:
        self.root = root
        self.vault = roots.vault or root / "vault"
        self.keys = roots.keys or root / "keys"
        self.warehouse_root = roots.warehouse or root / "warehouse"
        self.published_root = roots.published or root

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that dbt models; no direct identifiers, no addresses."""
        return self.warehouse_root / "warehouse.duckdb"

    @property
    def landing_cbs(self) -> Path:
        """Public CBS tables as they landed, one folder per table."""
        return self.root / "landing" / "cbs"

    @property
    def checked_cbs(self) -> Path:
        """When each table of CBS was last found up to date (JSON); the ledger tells only what changed."""
        return self.landing_cbs / "checked.json"

    @property
    def inbox(self) -> Path:
        """Where suppliers drop deliveries, one folder per contract; emptied by the intake."""
        return self.root / "inbox"

    @property
    def vault_database(self) -> Path:
        """The encrypted DuckDB file with everything that identifies a person."""
        return self.vault / "vault.duckdb"

    @property
    def originals(self) -> Path:
        """Encrypted originals of deliveries, under their fingerprint."""
        return self.vault / "originals"

    @property
    def key_file(self) -> Path:
        """The master key (mode 0600)."""
        return self.keys / "master.key"

    @property
    def ledger(self) -> Path:
        """The append-only SQLite ledger."""
        return self.root / "ledger" / "ledger.sqlite"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME of this factory."""
        return self.root / "dagster"

    @property
    def dbt(self) -> Path:
        """Dbt's target and logs."""
        return self.root / "dbt"

    @property
    def reports(self) -> Path:
        """Pages for people: op-orde reports, Data Docs, release pages."""
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        """What Dagster, dbt and the parts wrote during headless runs, one file a run."""
        return self.root / "logs"

    @property
    def releases(self) -> Path:
        """Immutable release folders: releases/<audience>/<id>/."""
        return self.published_root / "releases"

    @property
    def published(self) -> Path:
        """One link per audience to its current release folder."""
        return self.published_root / "published"

    @property
    def temp(self) -> Path:
        """Spill files of DuckDB (encrypted by the connection)."""
        return self.root / "tmp"

    @property
    def lock(self) -> Path:
        """The lock that every writing command holds."""
        return self.root / "factory.lock"

    def create(self) -> None:
        """Make the folders, readable by the owner alone (mode 0700)."""
        folders = [self.root, self.vault, self.originals, self.keys, self.warehouse_root, self.landing_cbs]
        folders += [self.inbox, self.ledger.parent, self.dagster, self.dbt, self.reports, self.releases]
        folders += [self.published, self.temp, self.logs]
        for folder in folders:
            private_folder(folder)
        for folder in {self.root, self.vault, self.keys, self.warehouse_root}:
            folder.chmod(0o700)


class Settings(BaseSettings):
    """All of factory.yaml, checked. Read it with `load_settings`, not by calling this class."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,  # `DATAFABRIEK_HOME= datafabriek run` unsets it; the home is never the folder itself
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    name: Annotated[str, Field(min_length=1)]
    sample: bool = False
    home: Path = Path(".datafabriek")
    roots: Roots = Roots()
    region: Region
    cbs: Cbs = Cbs()
    deliveries: dict[Name, Delivery] = {}
    contracts: Path | None = None
    policy: Path | None = None
    models: Path | None = None
    schedule: Schedule = Schedule()
    alerts: Alerts = Alerts()
    resources: Resources = Resources()

    _source: Path = PrivateAttr(default=SAMPLE_FACTORY)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; no .env and no secret files, so that one file and one prefix say it all."""
        return (env_settings, init_settings)

    @field_validator("deliveries", mode="before")
    @classmethod
    def _empty_delivery(cls, value: Any) -> Any:
        """Let `brp:` without further keys stand for a delivery with the defaults, and `deliveries:` for none."""
        if value is None:
            return {}
        if isinstance(value, dict):
            return {key: item if item is not None else {} for key, item in value.items()}
        return value

    @model_validator(mode="after")
    def _sample_has_no_own_models(self) -> Settings:
        if self.sample and self.models is not None:
            raise ValueError("the sample factory has no models of its own: remove `models` or `sample`")
        return self

    @property
    def source(self) -> Path:
        """The factory.yaml that these settings were read from."""
        return self._source

    @property
    def paths(self) -> Home:
        """Folders of this factory; relative ones count from factory.yaml (the sample's from the working folder)."""
        base = Path.cwd() if self._source == SAMPLE_FACTORY else self._source.parent
        resolved = Roots(**{k: (base / v).absolute() if v else None for k, v in self.roots})
        return Home((base / self.home).absolute(), resolved)

    @property
    def contract_folders(self) -> tuple[Path, ...]:
        """Folders with the factory's own contracts (the shipped ones come besides them)."""
        return self._own_folder(self.contracts, "contracts")

    @property
    def policy_folder(self) -> Path | None:
        """Norms, lawful grounds, retention, purposes, linkages; None where the factory has none yet."""
        found = self._own_folder(self.policy, "policy")
        return found[0] if found else None

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Folders with the factory's own dbt models."""
        return self._own_folder(self.models, "models")

    def _own_folder(self, named: Path | None, default: str) -> tuple[Path, ...]:
        folder = (self._source.parent / (named or default)).absolute()
        return (folder,) if folder.is_dir() else ()

    def _refuse_missing(self, lines: dict[tuple[str, ...], int]) -> None:
        """Refuse a folder or file that factory.yaml names and that is not there: a typing error, never a wish."""
        named: dict[tuple[str, ...], Path | None] = {
            ("contracts",): self.contracts,
            ("policy",): self.policy,
            ("models",): self.models,
            ("cbs", "ca_bundle"): self.cbs.ca_bundle,
        }
        for key, value in named.items():
            if value is not None and not (self._source.parent / value).exists():
                where = f", line {lines[key]}" if key in lines else ""
                what = f"`{'.'.join(key)}` names {value}, which does not exist beside it"
                raise ConfigError(f"{self._source}{where}: {what}: correct the path or make it")

    def _refuse_unknown_variables(self) -> None:
        """Refuse an environment variable that overrides nothing and is meant to.

        One without a path of keys may be somebody's own (a password that a file names): refused where it resembles a
        key.
        """
        keys = [key.upper() for key in type(self).model_fields]
        known = [*keys, *(name.removeprefix(PREFIX) for name in SPECIAL_VARIABLES)]
        for variable in sorted(os.environ):
            name = variable.upper()
            first, *path = name.removeprefix(PREFIX).split("__")
            if not name.startswith(PREFIX) or first in keys or name in SPECIAL_VARIABLES or variable in self._named():
                continue
            if path or difflib.get_close_matches(first, known, n=1, cutoff=0.75):
                meant = near(first, keys if path else known)
                raise ConfigError(f"environment variable {variable}: `{first}` is not a key of factory.yaml{meant}")

    def _named(self) -> set[str | None]:
        """Environment variables that factory.yaml itself names, as the places of secrets."""
        sources = (delivery.source for delivery in self.deliveries.values())
        named = {source.dsn_env for source in sources if isinstance(source, PostgresSource)}
        return {*named, self.alerts.mail.password_env if self.alerts.mail else None}


def find_factory_file() -> Path:
    """The factory.yaml in use: $DATAFABRIEK_FACTORY, else ./factory.yaml, else the sample factory's.

    Raises:
        ConfigError: the variable names no file.
    """
    named = os.environ.get(FACTORY_ENV)
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            what = "is a folder: name the file in it" if path.is_dir() else "does not exist: correct it or unset it"
            raise ConfigError(f"{FACTORY_ENV} names {path}, which {what}")
        return path
    local = Path.cwd() / FACTORY_FILE
    # one that is there and cannot be read is never taken for none: the sample would run in its place
    return local if os.path.lexists(local) else SAMPLE_FACTORY


def load_settings(path: Path | None = None) -> Settings:
    """Read and check a factory.yaml.

    Args:
        path: the file; None finds it as `find_factory_file` does.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds a wrong key or value; the message names each
            with its line and what was expected.
    """
    path = (path or find_factory_file()).absolute()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): check the path and its rights") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    try:
        document = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise ConfigError(f"{path}{where}: not valid YAML ({problem})") from None
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(f"{path}: expected keys such as `name:` and `region:` at the top level")
    for key, first, second in repeated_keys(node):
        raise ConfigError(f"{path}, line {second}: `{key}` stands on line {first} already: keep one of the two")
    lines = key_lines(node)
    try:
        settings = Settings(**document)
    except ValidationError as error:
        raise ConfigError(_explain(path, error, lines)) from None
    except SettingsError as error:
        # pydantic-settings reads a list or section from the environment as JSON, and names only the field
        field = re.search(r'field "(\w+)"', str(error))
        named = f" for `{field[1]}`" if field else ""
        example = """as in DATAFABRIEK_CBS__KWB_YEARS='[2019, 2020]'"""
        raise ConfigError(f"{path}: an environment variable{named} is no JSON; write lists so, {example}") from None
    settings._source = path
    settings._refuse_unknown_variables()
    settings._refuse_missing(lines)
    if settings.cbs.ca_bundle is not None:
        bundle = {"ca_bundle": (path.parent / settings.cbs.ca_bundle).absolute()}
        settings = settings.model_copy(update={"cbs": settings.cbs.model_copy(update=bundle)})
    return settings


def _explain(path: Path, error: ValidationError, lines: dict[tuple[str, ...], int]) -> str:
    """One line per mistake: file, line or environment variable, key, what was expected."""
    found = [f"{path}: {error.error_count()} mistake(s)"]
    for mistake in error.errors(include_url=False):
        location = tuple(str(part) for part in mistake["loc"])
        known = next((location[:n] for n in range(len(location), 0, -1) if location[:n] in lines), ())
        path_of = (PREFIX + "__".join(location[:n]).upper() for n in range(len(location), 0, -1))
        variable = next((name for name in path_of if name in os.environ), None)
        if variable:
            where = f"environment variable {variable}"
        elif known:
            where = f"line {lines[known]}"
        else:
            where = "not in the file"
        key = ".".join(location) or "(whole file)"
        if mistake["type"] == "extra_forbidden":
            found.append(
                f"  {where}: `{key}` is not a key of factory.yaml{near(location[-1], keys_at(Settings, location[:-1]))}"
            )
        elif mistake["type"] == "missing":
            found.append(f"  {where}: `{key}` is missing; add it")
        else:
            found.append(f"  {where}: `{key}`: {told(mistake)}")
    return "\n".join(found)
