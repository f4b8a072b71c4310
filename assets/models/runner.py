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
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datafabriek.config import Home, Settings
from datafabriek.errors import DISK_FULL, FactoryError, is_disk_full, tells_disk_full
from datafabriek.warehouse import safeguards
from quality.contracts.model import load
from quality.privacy.linkages import LAYERS, Relation, load_linkages, refuse_unregistered, relations
from quality.privacy.policy import purposes
from quality.privacy.templates import unsteady

PROJECT = Path(__file__).parents[2] / "dbt_project"
"""The shipped dbt project."""

BUILDING = "building"
"""Status of a node from the beginning of a build until dbt tells what came of it."""

OWN_MODELS = "eigen"
"""Folder under `models/` where a factory's own models appear."""


class ModelError(FactoryError):
    """Models that cannot be read or built: the message names the model and dbt's reason, without values."""


@dataclass(frozen=True)
class NodeResult:
    """What came of one model, seed or test.

    `status` is dbt's: success, error, skipped for models and seeds; pass, warn, fail, error, skipped for tests. Or
    `building`: a build began with it and never told what came of it.
    `failures` counts failing rows; `message` holds no values. `at` is when the build was that it is of, `good_at` when
    a model was last made and found right by its tests (UTC, ISO 8601; None if never). `text` is the fingerprint of the
    text that a model or seed was made from (`text_of`).
    """

    unique_id: str
    status: str
    execution_time: float = 0.0
    failures: int | None = None
    message: str = ""
    at: str = ""
    good_at: str | None = None
    text: str = ""

    @property
    def is_good(self) -> bool:
        """Made, or tested and found right (a warning counts as right)."""
        return self.status in ("success", "pass", "warn")


def dbt_vars(settings: Settings) -> dict[str, Any]:
    """What the models know of this factory: its deliveries (also by purpose), its regions, whether it is an example."""
    uses: dict[str, list[str]] = {}
    for name, delivery in sorted(settings.deliveries.items()):
        for purpose in purposes(settings, load(delivery.contract or name, settings.contract_folders), name):
            uses.setdefault(purpose.name, []).append(name)
    return {
        "leveringen": sorted(settings.deliveries),
        "doelen": uses,
        "gemeenten": sorted(settings.region.gemeenten),
        "is_voorbeeld": settings.sample,
    }


def manifest(settings: Settings) -> dict[str, Any]:
    """The manifest of this factory's models, as dbt writes it (`nodes`, `sources`, `parent_map` and more).

    Made anew only when a file of the project, a variable or dbt changed; else read in milliseconds, without dbt.

    Raises:
        ModelError: a model cannot be parsed, or two models have one name.
    """
    target = _target(settings.paths)
    stamp, fingerprint = target / "manifest.fingerprint", _fingerprint(settings)
    try:
        if stamp.read_text() == fingerprint:
            return _read(target / "manifest.json")
    except (OSError, ValueError):
        pass
    with _dbt(settings) as invoke:
        stamp.unlink(missing_ok=True)
        invoke("parse")
        stamp.write_text(fingerprint)
    return _read(target / "manifest.json")


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
        PolicyError: a model links persons of two purposes without a registered linkage.
        ModelError: dbt could not start at all, or a test keeps failing rows. A model that fails is a result, not an
            exception.
    """
    known = manifest(settings)
    _refuse_kept_rows(known)
    linkages = load_linkages(settings)
    refuse_unregistered(known, linkages)
    arguments = [] if unit_tests else ["--exclude-resource-type", "unit_test"]
    if select is not None:
        arguments += ["--indirect-selection", "empty", "--select", *select]
    with _dbt(settings) as invoke:
        if settings.model_folders:  # the shipped models are held to it by a test
            refuse_unregistered(known, linkages, read=read_relations(settings, invoke))
        _begin(settings.paths, known, select)
        run = invoke("build", "--no-write-json", *arguments)
        if any(tells_disk_full(result.message or "") for result in run.results):
            # no verdict on the models: what was begun stays marked so, and a release keeps to what was good
            raise ModelError(DISK_FULL)
        results = {
            result.node.unique_id: NodeResult(
                unique_id=result.node.unique_id,
                status=str(result.status.value if hasattr(result.status, "value") else result.status),
                execution_time=round(float(result.execution_time or 0.0), 3),
                failures=result.failures,
                message=masked(result.message or ""),
            )
            for result in run.results
        }
    noted = _note(settings.paths, known, results)
    return {unique_id: noted[unique_id] for unique_id in results}


def _refuse_kept_rows(known: Mapping[str, Any]) -> None:
    """Hold tests to counting: the rows that they find wrong are rows of persons, in a table that no purpose asked for.

    Raises:
        ModelError: a test keeps them.
    """
    for node in known["nodes"].values():
        config = node.get("config", {})
        if node["resource_type"] == "test" and (
            config.get("store_failures") or config.get("store_failures_as") in ("table", "view")
        ):
            raise ModelError(
                f"test {node['name']} ({node['original_file_path']}) keeps the rows that it finds wrong, and those are "
                "rows of persons: remove `store_failures`, a test counts them"
            )


def read_relations(settings: Settings, invoke: Any) -> dict[str, list[Relation] | None]:
    """What every model and test reads by its compiled SQL; kept until a file, a variable or dbt changes.

    Lineage shows what a model declares; a table that is named in its text without ref() or source() only shows here.

    Args:
        settings: whose factory.
        invoke: runs dbt on it.
    """
    kept, fingerprint = _target(settings.paths) / "relations.json", _fingerprint(settings)
    try:
        before = _read(kept)
        if before["fingerprint"] == fingerprint:
            return {name: found and [(each[0], each[1]) for each in found] for name, found in before["read"].items()}
    except (OSError, ValueError, KeyError):
        pass
    found = {
        result.node.unique_id: relations(result.node.compiled_code or "")
        for result in invoke("compile", "--no-write-json", "--no-populate-cache", "--no-introspect").results
        if result.node.resource_type in ("model", "snapshot", "test")
    }
    read = {name: None if each is None else sorted(each) for name, each in found.items()}
    kept.write_text(json.dumps({"fingerprint": fingerprint, "read": read}))
    return read


def last_manifest(home: Home) -> dict[str, Any] | None:
    """The manifest as it was last made, without looking whether it is fresh; None before the first."""
    try:
        return _read(_target(home) / "manifest.json")
    except FileNotFoundError:
        return None


def ancestors(known: Mapping[str, Any], unique_id: str) -> set[str]:
    """A node and all that it is made of, by unique id."""
    found: set[str] = set()
    waiting = [unique_id]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known["parent_map"].get(name, [])
    return found


def texts(known: Mapping[str, Any], unique_id: str) -> dict[str, str]:
    """Fingerprint of a model or seed and of each macro that it uses, by unique id; dbt's own come with its version."""
    node = known["nodes"].get(unique_id, {})  # unit tests stand elsewhere
    found = {unique_id: str(node.get("checksum", {}).get("checksum", ""))}
    engine = {"dbt", f"dbt_{known['metadata']['adapter_type']}"} if "metadata" in known else {"dbt"}
    macros: dict[str, Any] = known.get("macros", {})
    todo = list(node.get("depends_on", {}).get("macros", ()))
    while todo:
        name = todo.pop()
        macro = macros.get(name)
        if macro is None or macro["package_name"] in engine or name in found:
            continue
        found[name] = hashlib.sha256(macro["macro_sql"].encode()).hexdigest()
        todo += macro.get("depends_on", {}).get("macros", ())
    return found


def text_of(known: Mapping[str, Any], unique_id: str) -> str:
    """All of that in one fingerprint."""
    return hashlib.sha256(json.dumps(texts(known, unique_id), sort_keys=True).encode()).hexdigest()


def last_results(home: Home) -> dict[str, NodeResult]:
    """The newest result of every node that was ever built and still exists, by unique id; empty before the first."""
    try:
        results = _read(_target(home) / "run_results.json")["results"]
        return {result["unique_id"]: NodeResult(**result) for result in results}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def refuted(known: Mapping[str, Any], results: Mapping[str, NodeResult]) -> dict[str, list[str]]:
    """Models that a blocking test found wrong in these results (unique ids), with the names of those tests."""
    found: dict[str, list[str]] = {}
    for unique_id, result in results.items():
        node = known["nodes"].get(unique_id)
        if node and node["resource_type"] == "test" and result.status in ("fail", "error") and is_blocking(node):
            found.setdefault(attached_to(known, node) or "", []).append(node["name"])
    return found


def attached_to(known: Mapping[str, Any], test: Mapping[str, Any]) -> str | None:
    """Unique id of the model or seed that a test judges: the one it stands with, else the first that it names."""
    attached = test.get("attached_node") or next(iter(test["depends_on"]["nodes"]), None)
    return attached if attached in known["nodes"] else None


def is_blocking(test: Mapping[str, Any]) -> bool:
    """Whether a failing test stops what comes after it."""
    return str(test["config"]["severity"]).lower() == "error"


_OF_DBT = ("Compilation Error", "Parsing Error")
_TELLS_NO_VALUES = ("Binder Error", "Catalog Error", "Parser Error", "Got ")


def masked(message: str) -> str:
    """The one line of a dbt message that tells the cause, with whatever may be a value taken out.

    DuckDB quotes the value that it could not convert. Errors about names and syntax (binder, catalog, parser) show
    no data and stay whole.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not re.match(r"(Runtime|Database) Error( in |$)", line)] or lines
    if not lines:
        return ""
    line = lines[0]
    if line.startswith(_OF_DBT):
        return " ".join(lines[:2])
    if line.startswith(_TELLS_NO_VALUES) or "Error" not in line:
        return line
    line = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\}", "…", line)
    return re.sub(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\b(?!INT|UINT|FLOAT)\w*\d{2}\w*\b", "…", line)


def _note(home: Home, known: Mapping[str, Any], results: Mapping[str, NodeResult]) -> dict[str, NodeResult]:
    """Keep the newest result of every node in run_results.json, in dbt's form: a release refuses what failed there."""
    before, now = last_results(home), datetime.now(UTC).isoformat(timespec="seconds")
    wrong = refuted(known, results)
    noted = dict(before)
    for unique_id, result in results.items():
        good = result.is_good and unique_id not in wrong
        earlier = before.get(unique_id)
        good_at = now if good else earlier.good_at if earlier else None
        noted[unique_id] = replace(result, at=now, good_at=good_at, text=text_of(known, unique_id))
    _keep(home, known, noted)
    return noted


def _begin(home: Home, known: Mapping[str, Any], select: Sequence[str] | None) -> None:
    """Mark what is going to be built, before the warehouse changes: a killed build leaves no result of before."""
    before = last_results(home)
    building = {
        unique_id: NodeResult(unique_id, BUILDING, good_at=before[unique_id].good_at if unique_id in before else None)
        for unique_id, node in known["nodes"].items()
        if node["resource_type"] in ("model", "seed", "test") and (select is None or node["name"] in select)
    }
    _keep(home, known, before | building)


def _keep(home: Home, known: Mapping[str, Any], results: Mapping[str, NodeResult]) -> None:
    kept = [asdict(result) for unique_id, result in results.items() if unique_id in known["nodes"]]
    path = _target(home) / "run_results.json"
    path.with_suffix(".new").write_text(json.dumps({"results": kept}))
    path.with_suffix(".new").replace(path)


def _target(home: Home) -> Path:
    return home.dbt / "target"


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _fingerprint(settings: Settings) -> str:
    """Changes with every file of the project and of the factory's own models, the variables, and dbt itself."""
    digest = hashlib.sha256(json.dumps([dbt_vars(settings), version("dbt-core"), version("dbt-duckdb")]).encode())
    for folder in (PROJECT, *settings.model_folders):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".sql", ".yml", ".yaml", ".csv", ".md"} and path.is_file():
                digest.update(f"\n{folder}/{path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _project(settings: Settings) -> Path:
    return settings.paths.dbt / "project" if settings.model_folders else PROJECT


def _assemble(settings: Settings) -> Path:
    """The project that dbt reads: the shipped one, or a copy of it with the factory's own models in it.

    Raises:
        ModelError: a model of the factory's own has the name of another, or stands in no layer.
    """
    if not settings.model_folders:
        return PROJECT
    sources = [PROJECT / "models", *settings.model_folders]
    found: dict[str, Path] = {}
    for folder in sources:
        for path in sorted(folder.rglob("*.sql")):
            if path.stem in found:
                raise ModelError(f"{path} has the name of {found[path.stem]}: give one of the two models another name")
            if folder != sources[0] and path.relative_to(folder).parts[0] not in LAYERS:
                raise ModelError(f"{path} stands in no layer: put it in {', '.join(LAYERS)} under {folder}")
            found[path.stem] = path
    _refuse_unsteady(settings)
    # copied and not linked: dbt does not follow links when it looks for models
    project = _project(settings)
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    for folder in settings.model_folders:
        shutil.copytree(folder, project / "models" / OWN_MODELS)
    return project


def _refuse_unsteady(settings: Settings) -> None:
    """Hold own models to templates that come to the same SQL when they are looked at and when they run.

    Raises:
        ModelError: one may come to other SQL; the message names the file, the line and what it uses.
    """
    shipped = "".join(path.read_text(encoding="utf-8") for path in sorted((PROJECT / "macros").rglob("*.sql")))
    macros = set(re.findall(r"{%-?\s*macro\s+(\w+)", shipped))
    remedy = "what that reads cannot be told before it runs; use ref(), source(), var(), config() and shipped macros"
    for path in sorted(each for folder in settings.model_folders for each in folder.rglob("*") if each.is_file()):
        if path.suffix == ".sql" and (wrong := unsteady(path.read_text(encoding="utf-8"), macros)):
            raise ModelError(f"{path}, {wrong[0]}: {remedy}")
        if path.suffix in {".yml", ".yaml"}:
            without = re.sub(r"""{{-?\s*doc\((?:"\w+"|'\w+')\)\s*-?}}""", "", path.read_text(encoding="utf-8"))
            if re.search(r"{[{%#]", without):
                raise ModelError(f"{path} holds a template other than doc(): {remedy}")


@contextmanager
def _dbt(settings: Settings) -> Iterator[Any]:
    """A function that runs one dbt command on this factory and gives its result; dbt is imported here.

    One at a time per factory: the UI may parse while a run builds, and dbt's cache of parsed files is one file.
    """
    home = settings.paths
    home.dbt.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.warehouse.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = {
        "DBT_WAREHOUSE": str(home.warehouse),
        "DBT_SAFEGUARDS": json.dumps(safeguards(home, settings.resources)),
        "DBT_SEEDS": str(_project(settings) / "seeds"),
    }
    options = [
        "--vars",
        json.dumps(dbt_vars(settings)),
        "--target-path",
        _target(home),
        "--log-path",
        home.dbt / "logs",
    ]

    def invoke(command: str, *arguments: str) -> Any:
        from dbt.cli.main import dbtRunner

        # not even errors on the console: they would show values
        quiet = ["--quiet", "--log-level", "none", "--log-level-file", "none", "--no-version-check"]
        outcome = dbtRunner().invoke([*quiet, command, *map(str, options), *arguments])
        if is_disk_full(outcome.exception):
            raise ModelError(DISK_FULL) from None
        if outcome.exception is not None:
            raise ModelError(f"the models cannot be used: {masked(str(outcome.exception))}") from None
        return outcome.result

    with (home.dbt / "lock").open("w") as lock, _environment(environment):
        fcntl.flock(lock, fcntl.LOCK_EX)
        # not before the lock: another process may be reading the copy that this makes anew
        project = _assemble(settings)
        options += ["--project-dir", project, "--profiles-dir", project]
        try:
            yield invoke
        finally:
            _close_warehouse()


def _close_warehouse() -> None:
    """Let go of the warehouse: the adapter keeps its connection for a next command in this process."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment = DuckDBConnectionManager._ENV
    DuckDBConnectionManager._ENV = None
    if environment is not None:
        environment.close()


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
