"""The deployments of prefect.yaml on a real server: deployed, run by hand and run on a schedule."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.launch.local import use_prefect
from flows.launch.review_event import announce_review
from segem.errors import ConfigError
from segem.records.review import Head
from segem.stages.campaign import ReviewStanding
from tests.processes import ROOT, clean_environment, free_port, listening, started, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]

PREFECT = [sys.executable, "-m", "prefect"]
PASSWORD = "segem:loopback-only"  # it guards a server that lives for a minute
DEPLOYMENTS = {
    "cells-of-volume/cells-of-volume",
    "campaign/campaign",
    "campaign-on-new-data/campaign-on-new-data",
    "verify-weekly/verify-weekly",
    "ingest-volume/ingest-volume",
    "baseline-volume/baseline-volume",
    "segment-volume/segment-volume",
    "refine-volume/refine-volume",
    "retrain/retrain",
    "retrain-reviewed/retrain-reviewed",
    "report-run/report-run",
}


@dataclass(frozen=True)
class Server:
    """A running server with deployments and a worker."""

    url: str
    pid: int
    environment: dict[str, str]
    logs: Path

    def cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [*PREFECT, "--no-prompt", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def api(self, method: str, path: str, body: object = None) -> Any:
        user, password = PASSWORD.split(":")
        with httpx.Client(base_url=self.url, auth=(user, password), trust_env=False, timeout=30) as client:
            token = client.get("/csrf-token", params={"client": "tests"}).json()["token"]
            headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
            answer = client.request(method, path, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def flow_runs(self, **conditions: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("POST", "/flow_runs/filter", {"flow_runs": conditions})
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server and a worker the way docs/how-to/schedule.md says, with everything deployed."""
    home = tmp_path_factory.mktemp("server")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    environment = clean_environment(
        PREFECT_HOME=str(home),
        PREFECT_API_URL=f"{origin}/api",
        PREFECT_API_AUTH_STRING=PASSWORD,
        PREFECT_SERVER_API_AUTH_STRING=PASSWORD,
        PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS=origin,
        PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED="true",
        PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="2",
        PREFECT_WORKER_QUERY_SECONDS="1",
        PREFECT_WORKER_PREFETCH_SECONDS="1",
    )
    serve = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    work = [*PREFECT, "worker", "start", "--pool", "segem-local", "--limit", "1"]
    # The worker is stopped first: without its server it may never exit.
    with started(serve, home / "server.log", environment) as process:
        wait_for(lambda: _healthy(origin), 120, home / "server.log")
        running = Server(f"{origin}/api", process.pid, environment, home)
        running.cli("work-pool", "create", "segem-local", "--type", "process")
        running.cli("deploy", "--all")
        with started(work, home / "worker.log", environment):
            yield running


def _healthy(origin: str) -> bool:
    try:
        return httpx.get(f"{origin}/api/health", trust_env=False, timeout=2).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
def job(manifest_of: Callable[..., Path], tmp_path: Path) -> dict[str, str]:
    """Return the parameters of a campaign on one tiny stack."""
    return {"manifest": str(manifest_of("alpha")), "workspace": str(tmp_path / "w"), "run": "r1"}


def test_every_flow_is_deployed_to_run_from_this_clone(server: Server) -> None:
    found = server.api("POST", "/deployments/filter", {})
    flows = {flow["id"]: flow["name"] for flow in server.api("POST", "/flows/filter", {})}

    assert {f"{flows[d['flow_id']]}/{d['name']}" for d in found} == DEPLOYMENTS
    for deployment in found:
        assert deployment["pull_steps"] == [
            {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
        ]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert deployment["job_variables"]["env"]["DO_NOT_TRACK"] == "1"
        assert not [schedule for schedule in deployment["schedules"] if schedule["active"]]


def test_the_server_is_closed_to_strangers(server: Server) -> None:
    body = {"name": "planted", "value": "1"}
    stranger = {"Host": "evil.example", "Origin": "http://evil.example"}

    assert listening(server.pid) == {"127.0.0.1"}
    for headers in ({}, stranger):
        answer = httpx.post(f"{server.url}/variables/", json=body, headers=headers, trust_env=False)
        assert answer.status_code in {401, 403}
        assert "access-control-allow-origin" not in answer.headers
    assert server.api("POST", "/variables/filter", {}) == []


def test_a_wrong_password_is_explained(server: Server, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: "segem:guess"}),
        pytest.raises(ConfigError, match=r"401.*check PREFECT_API_AUTH_STRING"),
        use_prefect(tmp_path),
    ):
        pass


def test_a_campaign_runs_by_hand(server: Server, job: dict[str, str]) -> None:
    parameters = [part for key, value in job.items() for part in ("--param", f"{key}={value}")]

    server.cli("deployment", "run", "campaign/campaign", *parameters, "--watch", "--watch-interval", "1")

    (run,) = server.flow_runs(name={"any_": ["r1"]}, state={"type": {"any_": ["COMPLETED"]}})
    report = Path(job["workspace"]) / "runs/r1/report"
    assert json.loads((report / "report.json").read_text())["volumes"][0]["name"] == "alpha"
    artifacts = server.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    keys = {artifact["key"] for artifact in artifacts}
    # On a slow machine, steps last long enough to have a bar of their own.
    bars = {f"{step}-alpha" for step in ("ingest", "baseline", "segment")}
    assert keys - bars == {"campaign-progress", "iou-of-volumes", "report", "status"}

    def told() -> list[str]:
        lines = server.api("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
        return [line["message"] for line in lines if line["name"].startswith("segem.")]

    wait_for(lambda: any("membrane IoU model" in line for line in told()), 60, server.logs / "worker.log")
    assert len(told()) == len(set(told())), "each line once"
    assert {
        "alpha: ingested, 2 sections of 96 x 80 px, voxels of 50,4,4 nm (given)",
        "alpha: segment starts, blocks: 1",
        "alpha: segment done, blocks computed: 1, skipped: 0",
    } <= set(told())


def test_a_review_that_is_enough_starts_a_retraining(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = ReviewStanding(20, 20, "mine", Head(entries=40, digest="ab" * 32))
    (tmp_path / "w").mkdir()
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not announce_review(tmp_path / "w", "monday", standing), "without a server there is nobody to tell"

    send = "from pathlib import Path; from flows.launch.review_event import *; from segem.records.review import Head; "
    send += f"print(announce_review(Path({str(tmp_path / 'w')!r}), 'monday', ReviewStanding(20, 20, 'mine', "
    send += f"Head(entries=40, digest={standing.head.digest!r}))))"
    for _ in range(2):
        # What is sent twice, since the answer was lost, starts one retraining.
        sent = subprocess.run(
            [sys.executable, "-c", send], env=server.environment, cwd=ROOT, capture_output=True, text=True
        )
        assert sent.stdout == "True\n", sent.stderr

    mine: dict[str, object] = {"name": {"any_": ["retrain mine by the review of monday"]}}
    ended = {**mine, "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    wait_for(lambda: bool(server.flow_runs(**ended)), 240, server.logs / "worker.log")
    (run,) = server.flow_runs(**mine)
    assert run["parameters"] == {"run": "monday", "model": "mine", "workspace": str(tmp_path / "w")}
    # It was started, and found that nobody has made this run.
    assert "monday" in run["state"]["message"]


def test_a_campaign_runs_on_a_schedule(server: Server, job: dict[str, str]) -> None:
    deployment = server.api("GET", "/deployments/name/campaign/campaign")
    schedule = {
        "schedule": {"interval": 10},
        "active": True,
        "parameters": {**job, "run": "scheduled"},
    }
    server.api("POST", f"/deployments/{deployment['id']}/schedules", [schedule])

    mine: dict[str, object] = {"tags": {"all_": ["auto-scheduled"]}}
    done = {**mine, "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    wait_for(lambda: bool(server.flow_runs(**done)), 240, server.logs / "worker.log")

    run = server.flow_runs(**done)[0]
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert (Path(job["workspace"]) / "runs/scheduled/report/index.html").is_file()


def test_the_nightly_schedule_waits_to_be_switched_on() -> None:
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    (campaign,) = [d for d in described["deployments"] if d["name"] == "campaign"]

    assert [schedule["active"] for schedule in campaign["schedules"]] == [False]
