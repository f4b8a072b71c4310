"""Running dbt inside this process: no child that could outlive a killed run and keep the warehouse's lock.

Belongs here: which project, variables and warehouse dbt gets, when its manifest is renewed, and what came of each
node. Does not belong here: Dagster, and what a model means (dbt_project).

dbt's own files under the home (logs, run results) are switched off: they would hold the texts of database errors,
and those hold values.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from assets.models.purposes import check_purposes, registered_linkages
from datafabriek.config import Home, Settings
from datafabriek.errors import FactoryError

PROJECT = Path(__file__).parents[2] / "dbt_project"
"""The shipped dbt project."""

OWN_MODELS = "eigen"
"""Folder under `models/` where a factory's own models appear."""

LAYERS = ("staging", "intermediate", "marts")


class ModelError(FactoryError):
    """Models that cannot be read or built: the message names the model and dbt's reason, without values."""


@dataclass(frozen=True)
class NodeResult:
    """What came of one model, seed or test.

    `status` is dbt's: success, error, skipped for models and seeds; pass, warn, fail, error, skipped for tests.
    `failures` counts failing rows; `message` holds no values.
    """

    unique_id: str
    status: str
    seconds: float
    failures: int | None
    message: str

    @property
    def is_good(self) -> bool:
        """Made, or tested and found right (a warning counts as right)."""
        return self.status in ("success", "pass", "warn")


@dataclass(frozen=True)
class MartState:
    """Whether a mart in the warehouse may be relied upon.

    `status` is `goed`; `verouderd` where it was not renewed, so that the version of `good_at` stands; or
    `afgekeurd` where it was renewed and a test found it wrong. `good_at` is the last time that it was made and found
    right (UTC, ISO 8601; None if never); `reason` says what failed, in counts.
    """

    status: str
    good_at: str | None
    reason: str = ""


def dbt_vars(settings: Settings) -> dict[str, Any]:
    """What the models know of this factory: its deliveries, its municipalities, and whether all is an example."""
    return {
        "leveringen": sorted(delivery.contract or name for name, delivery in settings.deliveries.items()),
        "gemeenten": sorted(settings.region.gemeenten),
        "is_voorbeeld": settings.sample,
    }


def manifest(settings: Settings) -> dict[str, Any]:
    """dbt's manifest of this factory without its macros: `fingerprint`, `nodes` and `sources`, as dbt writes them.

    Made anew only when a file of the project, a variable or dbt changed; else read in milliseconds, without dbt.

    Raises:
        ModelError: a model cannot be parsed, or two models have one name.
    """
    home = settings.paths
    fingerprint = _fingerprint(settings)
    cached = home.dbt / "manifest.json"
    try:
        known: dict[str, Any] = json.loads(cached.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("fingerprint") == fingerprint:
        return known
    with _dbt(settings) as invoke:
        parsed = invoke("parse").to_dict()
    slim = {"fingerprint": fingerprint, "nodes": parsed["nodes"], "sources": parsed["sources"]}
    # what dbt found out survives its JSON round trip, tuples and enums do not: readers see one form
    fresh = cached.with_suffix(".new")
    fresh.write_text(json.dumps(slim, default=str))
    fresh.replace(cached)
    loaded: dict[str, Any] = json.loads(cached.read_text())
    return loaded


def build(
    settings: Settings, select: Sequence[str] | None = None, *, unit_tests: bool = False
) -> dict[str, NodeResult]:
    """Build and test models in dependency order; what fails stops its descendants alone.

    No connection to the warehouse may be open in this process.

    Args:
        settings: whose factory.
        select: names of models, seeds and tests; None builds and tests everything. With a selection no other test
            runs than the ones named.
        unit_tests: also run the models' unit tests (they need the warehouse only for its types).

    Returns:
        Results by dbt's unique id.

    Raises:
        PurposeError: a model links persons of two purposes without a registered linkage.
        ModelError: dbt could not start at all. A model that fails is a result, not an exception.
    """
    known = manifest(settings)
    check_purposes(known, registered_linkages(settings.policy_folder))
    arguments = [] if unit_tests else ["--exclude-resource-type", "unit_test"]
    if select is not None:
        arguments += ["--indirect-selection", "empty", "--select", *select]
    with _dbt(settings) as invoke:
        run = invoke("build", "--no-write-json", *arguments)
        results = {
            result.node.unique_id: NodeResult(
                unique_id=result.node.unique_id,
                status=str(result.status.value if hasattr(result.status, "value") else result.status),
                seconds=float(result.execution_time or 0.0),
                failures=result.failures,
                message=masked(result.message or ""),
            )
            for result in run.results
        }
    _note_states(settings.paths, known, results)
    return results


def mart_states(home: Home) -> dict[str, MartState]:
    """The state of every mart after the last build; empty before the first. A release must ask this."""
    try:
        noted = json.loads(_state_file(home).read_text())
    except (OSError, ValueError):
        return {}
    return {name: MartState(**state) for name, state in noted.items()}


def attached_to(manifest: Mapping[str, Any], test: Mapping[str, Any]) -> str | None:
    """Unique id of the model or seed that a test judges: the one it stands with, else the first that it names."""
    attached = test.get("attached_node") or next(iter(test["depends_on"]["nodes"]), None)
    return attached if attached in manifest["nodes"] else None


def is_blocking(test: Mapping[str, Any]) -> bool:
    """Whether a failing test stops what comes after it."""
    return str(test["config"]["severity"]).lower() == "error"


_TELLS_NO_VALUES = ("Binder Error", "Catalog Error", "Parser Error", "Compilation Error", "Parsing Error", "Got ")


def masked(message: str) -> str:
    """The one line of a dbt message that tells the cause, with whatever may be a value taken out.

    DuckDB quotes the value that it could not convert. Errors about names and syntax (binder, catalog, parser) show
    no data and stay whole.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not re.match(r"(Runtime|Database) Error in ", line)] or lines
    if not lines:
        return ""
    line = lines[0]
    if line.startswith(_TELLS_NO_VALUES) or "Error" not in line:
        return line
    line = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\}", "…", line)
    return re.sub(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\b(?!INT|UINT|FLOAT)\w*\d{2}\w*\b", "…", line)


def _note_states(home: Home, known: Mapping[str, Any], results: Mapping[str, NodeResult]) -> None:
    """Note per mart whether it was renewed and found right."""
    states = mart_states(home)
    nodes = known["nodes"]
    wrong: dict[str, list[str]] = {}
    for unique_id, result in results.items():
        node = nodes.get(unique_id)
        if node and node["resource_type"] == "test" and result.status in ("fail", "error") and is_blocking(node):
            wrong.setdefault(attached_to(known, node) or "", []).append(node["name"])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for unique_id, result in results.items():
        node = nodes.get(unique_id)
        if node is None or node["resource_type"] != "model" or node["schema"] != "marts":
            continue
        before = states.get(node["name"], MartState("verouderd", None))
        if not result.is_good:
            status = "afgekeurd" if before.status == "afgekeurd" else "verouderd"
            reason = f"niet vernieuwd ({result.message or result.status})"
            states[node["name"]] = MartState(status, before.good_at, reason)
        elif unique_id in wrong:
            states[node["name"]] = MartState("afgekeurd", before.good_at, ", ".join(sorted(wrong[unique_id])))
        else:
            states[node["name"]] = MartState("goed", now)
    existing = {node["name"] for node in nodes.values() if node["schema"] == "marts"}
    fresh = _state_file(home).with_suffix(".new")
    fresh.write_text(json.dumps({name: asdict(state) for name, state in states.items() if name in existing}))
    fresh.replace(_state_file(home))


def _state_file(home: Home) -> Path:
    return home.dbt / "marts.json"


def _fingerprint(settings: Settings) -> str:
    """Changes with every file of the project and of the factory's own models, the variables, and dbt itself."""
    digest = hashlib.sha256(json.dumps([dbt_vars(settings), version("dbt-core"), version("dbt-duckdb")]).encode())
    for folder in (PROJECT, *settings.model_folders):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".sql", ".yml", ".yaml", ".csv", ".md"} and path.is_file():
                digest.update(f"\n{folder}/{path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _assemble(settings: Settings) -> Path:
    """The project that dbt reads: the shipped one, or a folder of links that joins the factory's own models to it.

    Raises:
        ModelError: a model of the factory's own has the name of another.
    """
    if not settings.model_folders:
        return PROJECT
    sources = [PROJECT / "models", *settings.model_folders]
    found: dict[str, Path] = {}
    for folder in sources:
        for path in sorted(folder.rglob("*.sql")):
            if path.stem in found:
                raise ModelError(f"{path} has the name of {found[path.stem]}: give one of the two models another name")
            found[path.stem] = path
    project = settings.paths.dbt / "project"
    links = {project / path.name: path for path in PROJECT.iterdir() if path.name not in ("models", "target", "logs")}
    links |= {project / "models" / path.name: path for path in (PROJECT / "models").iterdir()}
    links |= {project / "models" / OWN_MODELS: folder for folder in settings.model_folders}
    (project / "models").mkdir(parents=True, exist_ok=True)
    for stale in [path for path in (*project.iterdir(), *(project / "models").iterdir()) if path.is_symlink()]:
        if stale not in links or stale.readlink() != links[stale]:
            stale.unlink()
    for link, path in links.items():
        if not link.is_symlink():
            link.symlink_to(path)
    return project


@contextmanager
def _dbt(settings: Settings) -> Iterator[Any]:
    """A function that runs one dbt command on this factory and gives its result; dbt is imported here.

    One at a time per factory: the UI may parse while a run builds, and dbt's cache of parsed files is one file.
    """
    home = settings.paths
    home.dbt.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.warehouse.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    project = _assemble(settings)
    threads = settings.resources.threads or os.cpu_count() or 1
    environment = {
        "DBT_WAREHOUSE": str(home.warehouse),
        "DBT_TEMP": str(home.temp),
        "DBT_MEMORY_LIMIT": settings.resources.memory_limit,
        "DBT_THREADS": str(threads),
    }
    options = ["--project-dir", project, "--profiles-dir", project, "--vars", json.dumps(dbt_vars(settings))]
    options += ["--target-path", home.dbt / "target", "--log-path", home.dbt / "logs"]

    def invoke(command: str, *arguments: str) -> Any:
        from dbt.cli.main import dbtRunner

        quiet = ["--quiet", "--log-level-file", "none", "--no-version-check"]
        outcome = dbtRunner().invoke([*quiet, command, *map(str, options), *arguments])
        if outcome.exception is not None:
            raise ModelError(f"the models cannot be used: {masked(str(outcome.exception))}") from None
        return outcome.result

    with (home.dbt / "lock").open("w") as lock, _environment(environment):
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield invoke
        finally:
            _close_warehouse()


def _close_warehouse() -> None:
    """Let go of the warehouse: the adapter keeps its connection for a next command in this process."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
