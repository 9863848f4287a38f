"""The service of a workspace, on a real server: who may ask, what it listens on, what is scheduled, how it ends."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flows.launch.deployments import read_deployments
from flows.launch.service import PASSWORD, Service
from tests.flows.conftest import RunningService, serving
from tests.processes import ROOT, clean_environment, listening, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]


def status(service: RunningService, path: str, method: str = "GET", **headers: str) -> int:
    return httpx.request(
        method, f"{service.service.address()}{path}", headers=headers, trust_env=False, timeout=30
    ).status_code


def test_every_deployment_is_there_without_a_clone(service: RunningService) -> None:
    found = service.api("POST", "/deployments/filter", {})
    flows = {flow["id"]: flow["name"] for flow in service.api("POST", "/flows/filter", {})}
    assert {f"{flows[one['flow_id']]}/{one['name']}" for one in found} == {
        f"{one['name']}/{one['name']}" for one in read_deployments()
    }
    for one in found:
        assert one["pull_steps"] in (None, []), "no clone is needed"
        assert one["entrypoint"].startswith("flows.")
        assert one["global_concurrency_limit"]["limit"] == 1
        assert one["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert one["parameters"]["workspace"] == str(service.service.workspace)


def test_it_listens_on_loopback_only(service: RunningService) -> None:
    assert listening(service.process.pid) == {"127.0.0.1"}


def test_the_password_is_its_owners(service: RunningService) -> None:
    assert stat.S_IMODE(service.service.settings_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.service.root.stat().st_mode) == 0o700
    assert len(service.service.settings()[PASSWORD]) > 40
    secret = service.service.settings()[PASSWORD].partition(":")[2]
    for path in (service.service.worker_log, service.service.flows_log):
        assert not path.exists() or secret not in path.read_text(errors="replace")


def test_without_the_password_nothing_is_answered_but_health_and_the_page(service: RunningService) -> None:
    api = service.api("GET", "/../openapi.json")["paths"]
    assert len(api) > 100
    open_ones = {path for path in api if status(service, f"/api{path}") != 401}
    assert open_ones == {"/health", "/ready"}
    assert status(service, "/api/health") == 200
    assert status(service, "/") == 200
    for path in ("/reports/", "/reports/r1/index.html", "/reports", "/api/variables/name/health"):
        assert status(service, path) == 401, path
        assert status(service, path, Authorization="Basic c2VnZW06c2VnZW0=") == 401, path
    assert service.api("POST", "/variables/filter", {}) == []


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/admin/version", "/reports/"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_other_sites_are_refused(service: RunningService, path: str, headers: dict[str, str]) -> None:
    assert status(service, path, **headers) == 403
    assert status(service, path, "POST", **headers) == 403


def test_what_changes_something_needs_a_token_against_forgery(service: RunningService) -> None:
    user, _, password = service.service.settings()[PASSWORD].partition(":")
    answer = httpx.post(
        f"{service.url}/variables/",
        json={"name": "planted", "value": "1"},
        auth=(user, password),
        trust_env=False,
    )
    assert answer.status_code == 403


def test_a_second_service_of_the_workspace_is_refused(service: RunningService) -> None:
    said = service.segem("serve", "--port", "0", code=1)
    assert "runs already" in said
    assert f"process {service.process.pid}" in said


def test_schedules_are_added_listed_paused_and_removed(
    service: RunningService, manifest_of: Callable[..., Path]
) -> None:
    manifest = str(manifest_of("alpha"))
    added = json.loads(service.segem("schedule", "add", manifest, "--cron", "0 2 * * *", "--timezone", "UTC", "--json"))
    assert added["name"] == "tiny"
    assert added["next"].endswith(" 02:00+00:00")
    assert "there is a schedule of this name" in service.segem("schedule", "add", manifest, "--cron", "1 2 * * *", code=1)
    (one,) = json.loads(service.segem("schedule", "list", "--json"))["schedules"][:1]
    assert (one["manifest"], one["active"]) == (manifest, True)

    service.segem("schedule", "pause", manifest)
    assert "tiny: 0 2 * * * (UTC), paused" in service.segem("schedule", "list")
    service.segem("schedule", "resume", "tiny")
    assert "paused" not in service.segem("schedule", "list")
    service.segem("schedule", "remove", "tiny")
    assert "tiny" not in service.segem("schedule", "list")
    assert "no schedule of this name" in service.segem("schedule", "remove", "tiny", code=1)
    assert "these times cannot be read" in service.segem("schedule", "add", manifest, "--cron", "whenever", code=1)


def test_a_campaign_runs_and_its_report_opens_behind_the_password(
    service: RunningService, manifest_of: Callable[..., Path]
) -> None:
    flow_run = service.start("campaign/campaign", manifest=str(manifest_of("alpha")), run="served")
    service.wait(flow_run, "COMPLETED", "FAILED", "CRASHED")
    assert service.state(flow_run) == "COMPLETED", service.api("GET", f"/flow_runs/{flow_run}")["state"]

    artifacts = service.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}})
    (link,) = [one["data"] for one in artifacts if one["key"] == "report"]
    address = f"{service.service.address()}/reports/served/index.html"
    assert address in link
    user, _, password = service.service.settings()[PASSWORD].partition(":")
    with httpx.Client(auth=(user, password), trust_env=False, timeout=30) as client:
        assert "alpha" in client.get(address).text
        assert "served" in client.get(f"{service.service.address()}/reports/").text
        for outside in ("run.json", "..%2frun.json", "%2e%2e/run.json", "/etc/passwd"):
            assert client.get(f"{service.service.address()}/reports/served/{outside}").status_code == 404, outside
    assert httpx.get(address, trust_env=False).status_code == 401
