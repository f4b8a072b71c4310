"""Dagster's UI on a home with a finished run, seen by a real browser and steered as the UI does, through GraphQL."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def ui(finished_factory: Path, start: Callable[..., subprocess.Popen[str]]) -> Iterator[str]:
    """The address of a UI with daemon, started as users do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(finished_factory, "dev", "--port", str(port), output=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(lambda: bool(_locations(address)), 240)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=90)


def _await(condition: Any, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.5)


def graphql(address: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert "errors" not in found, found
    return dict(found["data"])


def _locations(address: str) -> list[str]:
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
    return [node["location"]["name"] for node in graphql(address, query)["repositoriesOrError"]["nodes"]]


@pytest.fixture(scope="module")
def page(ui: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("chromium is missing: apt install chromium")
    from playwright.sync_api import sync_playwright

    profile = str(tmp_path_factory.mktemp("chromium"))
    with sync_playwright() as browser:
        window = browser.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1800, "height": 1100}
        )
        yield window.new_page()
        window.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


SHOWN = {
    "aanvoer_cbs": "raw_cbs/kerncijfers_wijken_en_buurten",
    "aanvoer_leveringen": "vault/brp",
    "modellen": "marts/bijstand_per_regio",
    "levering": "levering/open_kandidaat",
}
"""An asset of every group, by which its pages are known."""

DRAWN = {
    "aanvoer_cbs": "kerncijfers",
    "aanvoer_leveringen": "brp",
    "modellen": "zzp_per_regio",
    "levering": "kandidaat",
}
"""A name that each group's graph shows whole: it shortens long ones, and draws only what is in view."""


@pytest.mark.browser
def test_the_graph_shows_the_way_from_source_to_release(ui: str, page: Any, pictures: Path) -> None:
    page.goto(f"{ui}/asset-groups")
    for group in SHOWN:
        page.get_by_text(group, exact=True).first.wait_for(timeout=60_000)
    page.get_by_text("fetching statuses").first.wait_for(state="hidden", timeout=60_000)
    page.screenshot(path=pictures / "graph.png")


@pytest.mark.browser
@pytest.mark.parametrize("group", SHOWN)
def test_each_group_has_a_graph_of_its_own(ui: str, page: Any, pictures: Path, group: str) -> None:
    page.goto(f"{ui}/locations/__repository__@datafabriek/asset-groups/{group}/lineage")
    page.get_by_text(DRAWN[group]).first.wait_for(timeout=60_000)
    page.get_by_text("Loading").first.wait_for(state="hidden", timeout=60_000)
    page.screenshot(path=pictures / f"{group}.png")


@pytest.mark.browser
@pytest.mark.parametrize("asset", SHOWN.values())
def test_an_asset_shows_its_checks(ui: str, page: Any, pictures: Path, asset: str) -> None:
    page.goto(f"{ui}/assets/{asset}?view=checks")
    page.get_by_text("Passed").first.wait_for(timeout=60_000)
    page.screenshot(path=pictures / f"checks_{asset.replace('/', '_')}.png")


TIMELINE = """{ runsFeedOrError(limit: 10, view: RUNS, filter: {tags: [
        {key: ".dagster/repository", value: "__repository__@datafabriek"}]}) {
    ... on RunsFeedConnection { results { ... on Run { jobName status canTerminate
        repositoryOrigin { repositoryLocationName repositoryName } } } } } }"""


def test_a_headless_run_is_one_of_the_job(ui: str) -> None:
    runs = [run for run in graphql(ui, TIMELINE)["runsFeedOrError"]["results"] if run["jobName"] == "nachtelijke_run"]
    assert runs
    origin = {"repositoryLocationName": "datafabriek", "repositoryName": "__repository__"}
    assert all(run["repositoryOrigin"] == origin and run["status"] == "SUCCESS" for run in runs)


@pytest.mark.browser
@pytest.mark.parametrize("path", ["overview/activity/timeline", "locations/__repository__@datafabriek/jobs/{}/runs"])
def test_a_headless_run_stands_in_the_timeline_and_with_its_job(ui: str, page: Any, pictures: Path, path: str) -> None:
    page.goto(f"{ui}/{path.format('nachtelijke_run')}")
    page.get_by_text("nachtelijke_run").first.wait_for(timeout=60_000)
    if "timeline" not in path:
        page.get_by_text("Success").first.wait_for(timeout=60_000)
    page.screenshot(path=pictures / f"run_{path.count('/')}.png")


def test_it_listens_on_this_machine_alone(ui: str) -> None:
    told = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=False).stdout
    port = ui.rpartition(":")[2]
    addresses = {line.split()[3] for line in told.splitlines() if line.split()[3].endswith(f":{port}")}
    assert addresses == {f"127.0.0.1:{port}"}


def test_every_asset_has_an_owner_and_a_check(ui: str) -> None:
    query = """{ assetNodes { assetKey { path } groupName description kinds
        owners { ... on TeamAssetOwner { team } } hasAssetChecks isMaterializable } }"""
    nodes = [node for node in graphql(ui, query)["assetNodes"] if node["isMaterializable"]]
    assert {node["groupName"] for node in nodes} == set(SHOWN)
    lacking = [
        node["assetKey"]["path"]
        for node in nodes
        if not (node["owners"] and node["description"] and node["kinds"] and node["hasAssetChecks"])
    ]
    assert lacking == []


LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } }
    ... on InvalidSubsetError { message } ... on PythonError { message } } }"""
BACKFILL = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
BACKFILL_STATUS = (
    "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)
JOB = {"repositoryName": "__repository__", "repositoryLocationName": "datafabriek"}
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


@pytest.mark.slow
def test_an_asset_can_be_made_from_the_ui(ui: str) -> None:
    asset = {"path": ["raw_cbs", "regios"]}
    params = {
        "selector": {**JOB, "pipelineName": "__ASSET_JOB", "assetSelection": [asset]},
        "runConfigData": "{}",
        "mode": "default",
        "executionMetadata": {"tags": []},
    }
    launched = graphql(ui, LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]
    assert _await(lambda: _ended(ui, run), 240) == "SUCCESS"


def _ended(address: str, run: str) -> str | None:
    status = str(graphql(address, RUN, id=run)["runOrError"]["status"])
    return status if status in ENDED else None


@pytest.mark.slow
def test_a_year_can_be_fetched_again_from_the_ui(ui: str) -> None:
    query = "{ assetNodes { assetKey { path } isPartitioned partitionKeys } }"
    node = next(node for node in graphql(ui, query)["assetNodes"] if node["isPartitioned"])
    params = {
        "assetSelection": [{"path": node["assetKey"]["path"]}],
        "partitionNames": node["partitionKeys"][-1:],
        "fromFailure": False,
    }
    launched = graphql(ui, BACKFILL, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def ended() -> str | None:
        found = graphql(ui, BACKFILL_STATUS, id=launched["backfillId"])["partitionBackfillOrError"]["status"]
        return str(found) if found not in ("REQUESTED", "CANCELING") else None

    assert _await(ended, 300) == "COMPLETED_SUCCESS"
