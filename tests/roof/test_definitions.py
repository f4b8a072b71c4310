"""The real definitions of the sample factory load the way the code server loads them, and hold what each asset owes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from datafabriek.config import FACTORY_ENV
from datafabriek.definitions import GROUPS, NIGHTLY_JOB


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dg.RepositoryDefinition:
    """The repository as Dagster's code server makes it: from the module's name, through its loadable targets."""
    from dagster._core.definitions.reconstruct import repository_def_from_target_def
    from dagster._grpc.utils import get_loadable_targets

    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("voorbeeld"))
    try:
        (target,) = get_loadable_targets(
            python_file=None,
            module_name="datafabriek.definitions",
            package_name=None,
            working_directory=None,
            attribute=None,
            autoload_defs_module_name=None,
            resolve_lazy_defs=True,
        )
        repository = repository_def_from_target_def(target.target_definition)
    finally:
        os.chdir(here)
    assert repository is not None
    return repository


def nodes(loaded: dg.RepositoryDefinition) -> list[Any]:
    graph = loaded.asset_graph
    return [graph.get(key) for key in graph.materializable_asset_keys]


def test_every_asset_owes_an_owner_a_group_kinds_and_a_description(loaded: dg.RepositoryDefinition) -> None:
    lacking = {
        node.key.to_user_string(): lack
        for node in nodes(loaded)
        if (
            lack := [
                name
                for name, value in {
                    "owner": list(node.owners),
                    "description": node.description,
                    "kinds": [tag for tag in node.tags if tag.startswith("dagster/kind/")],
                    "group": node.group_name in GROUPS,
                }.items()
                if not value
            ]
        )
    }
    assert lacking == {}


def test_every_asset_has_a_check(loaded: dg.RepositoryDefinition) -> None:
    checked = {key.asset_key for key in loaded.asset_graph.asset_check_keys}
    assert sorted(node.key.to_user_string() for node in nodes(loaded) if node.key not in checked) == []


def test_each_group_feeds_the_next(loaded: dg.RepositoryDefinition) -> None:
    graph = loaded.asset_graph
    assert {node.group_name for node in nodes(loaded)} == set(GROUPS)
    before = graph.get_ancestor_asset_keys(dg.AssetKey(["levering", "open"]))
    groups = {graph.get(key).group_name for key in before if graph.get(key).is_materializable}
    assert groups >= {"aanvoer_cbs", "aanvoer_leveringen", "modellen"}


def test_models_rest_only_on_assets_that_exist(loaded: dg.RepositoryDefinition) -> None:
    graph = loaded.asset_graph
    made = {node.key for node in nodes(loaded)}
    loose = {
        f"{parent.to_user_string()} -> {node.key.to_user_string()}"
        for node in nodes(loaded)
        if node.group_name in ("modellen", "levering")
        for parent in node.parent_keys
        if parent not in made
    }
    assert graph.get_all_asset_keys() >= made
    assert loose == set()


def test_the_nightly_job_is_unpartitioned_and_runs_at_three(loaded: dg.RepositoryDefinition) -> None:
    job = loaded.get_job(NIGHTLY_JOB)
    assert job.partitions_def is None
    assert job.asset_layer.selected_asset_keys == {n.key for n in nodes(loaded) if n.partitions_def is None}
    assert job.asset_layer.asset_graph.asset_check_keys == loaded.asset_graph.asset_check_keys, "no check is left out"
    schedule = loaded.get_schedule_def("nachtelijk")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * *", "Europe/Amsterdam")


def test_partitioned_assets_can_be_fetched_again(loaded: dg.RepositoryDefinition) -> None:
    partitioned = [node for node in nodes(loaded) if node.partitions_def is not None]
    assert partitioned
    for node in partitioned:
        assert loaded.get_job(f"inhalen_{node.key.path[-1]}").asset_layer.selected_asset_keys == {node.key}
        assert node.backfill_policy is not None
        assert node.backfill_policy.max_partitions_per_run is None, "a backfill is one run"


def test_importing_the_module_does_no_work() -> None:
    """Loading the module alone reads no configuration, opens nothing and imports no engine of dbt."""
    code = (
        "import sys, time; import dagster; start = time.process_time(); import datafabriek.definitions; "
        "assert time.process_time() - start < 1.5, time.process_time() - start; "
        "assert not {'dbt', 'great_expectations', 'pandera'} & set(sys.modules)"
    )
    broken = os.environ | {FACTORY_ENV: "/nowhere/factory.yaml"}
    done = subprocess.run([sys.executable, "-c", code], env=broken, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_mistake_in_factory_yaml_reaches_the_ui_in_words(tmp_path: Path) -> None:
    (tmp_path / "factory.yaml").write_text("name: X\nregoin: {}\n")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dagster",
        "definitions",
        "validate",
        "-m",
        "datafabriek.definitions",
    ]
    settings = os.environ | {FACTORY_ENV: str(tmp_path / "factory.yaml"), "DAGSTER_HOME": str(tmp_path)}
    told = subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "`regoin` is not a key of factory.yaml; did you mean `region`?" in told.stdout + told.stderr
