"""The service of a workspace, on a real server: who may ask, what it listens on, what is scheduled, how it ends."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from flows.launch.deployments import POOL, read_deployments
from flows.launch.serve import drain
from flows.launch.service import PASSWORD, Service
from segem.errors import WorkspaceError
from tests.flows.conftest import ENDS, NAP, RunningService, make_gate, serving
from tests.processes import ROOT, clean_environment, free_port, listening, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]


def status(service: RunningService, path: str, method: str = "GET", **headers: str) -> int:
    with httpx.Client(trust_env=False, timeout=30, verify=False) as client:  # nothing to verify: it is no https
        return client.request(method, f"{service.service.address()}{path}", headers=headers).status_code


def test_every_deployment_is_there_without_a_clone(service: RunningService) -> None:
    # Tests that were run before this one deploy a flow of their own.
    found = [one for one in service.api("POST", "/deployments/filter", {}) if one["name"] != NAP.partition("/")[2]]
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
    for path in (service.service.worker_log, service.service.flows_log, service.log):
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
    at_two = ("--cron", "0 2 * * *", "--timezone", "UTC")
    said = service.commands(
        ("schedule", "add", manifest, *at_two, "--json"),
        ("schedule", "add", manifest, *at_two),
        ("schedule", "list", "--json"),
        ("schedule", "pause", manifest),
        ("schedule", "list"),
        ("schedule", "resume", "tiny"),
        ("schedule", "list"),
        ("schedule", "remove", "tiny"),
        ("schedule", "list"),
        ("schedule", "remove", "tiny"),
        ("schedule", "add", manifest, "--cron", "whenever"),
        ("doctor",),
        ("schedule", "add", manifest, "--cron", "0 2 30 2 *"),
        ("schedule", "list"),
    )
    assert json.loads(said[0])["name"] == "tiny"
    assert json.loads(said[0])["next"].endswith(" 02:00+00:00")
    assert "there is a schedule of this name" in said[1]
    found = {one["name"]: one for one in json.loads(said[2])["schedules"]}
    assert (found["tiny"]["manifest"], found["tiny"]["active"]) == (manifest, True)
    assert found["weekly"]["deployment"] == "verify-weekly"
    assert "tiny: 0 2 * * * (UTC), paused" in said[4]
    assert "tiny: 0 2 * * * (UTC), next" in said[6]
    assert manifest in said[6], "the server forgets parameters that it is not told again"
    assert "tiny" not in said[8]
    assert "no schedule of this name" in said[9]
    assert "these times cannot be read" in said[10]
    assert f"process {service.process.pid} at {service.service.address()}" in said[11]
    assert "weekly (next " in said[11]
    assert "pydantic" not in said[10]
    assert "these times never come" in said[12], "a server that tries them plans nothing else of the flow"
    assert "tiny" not in said[13]


def test_schedules_of_another_make_are_changed_by_the_name_they_are_listed_by(service: RunningService) -> None:
    deployment = service.api("GET", "/deployments/name/report-run/report-run")["id"]
    made = [{"schedule": {"cron": "0 3 * * *"}, "slug": slug} for slug in (None, "Every_Night")]
    listed = [one["slug"] or one["id"] for one in service.api("POST", f"/deployments/{deployment}/schedules", made)]
    said = service.commands(
        *(("schedule", "pause", name) for name in listed),
        *(("schedule", "remove", name) for name in listed),
        ("schedule", "list", "--json"),
    )
    assert {one["name"] for one in json.loads(said[-1])["schedules"]}.isdisjoint(listed)


def test_what_waits_outlives_a_change_of_another_schedule(
    service: RunningService, manifest_of: Callable[..., Path]
) -> None:
    manifest, pool = str(manifest_of("alpha")), f"/work_pools/{POOL}"
    deployment = service.api("GET", "/deployments/name/campaign/campaign")["id"]
    service.commands(
        ("schedule", "add", manifest, "--cron", "0 * * * *", "--timezone", "UTC", "--name", "hourly"),
        ("schedule", "add", manifest, "--cron", "0 2 * * *", "--timezone", "UTC", "--name", "nightly"),
    )
    slugs = {one["slug"]: one["id"] for one in service.api("GET", f"/deployments/{deployment}")["schedules"]}

    def planned() -> set[tuple[str, str]]:
        body = {
            "deployments": {"id": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        found = service.api("POST", "/flow_runs/filter", body)
        return {(one["name"], one["expected_start_time"]) for one in found if slugs["hourly"] in one["idempotency_key"]}

    service.api("PATCH", pool, {"is_paused": True})
    try:
        # As if they had waited for their turn for hours.
        since = datetime.now(UTC) - timedelta(hours=3)
        service.api("POST", f"/deployments/{deployment}/schedule", {"start_time": since.isoformat()})
        before = planned()
        due = {one for one in before if datetime.fromisoformat(one[1]) < datetime.now(UTC)}
        assert len(due) >= 3
        assert len(before) > len(due)
        for change in ("pause", "resume", "remove"):
            service.commands(("schedule", change, "nightly"))
            assert due <= planned(), change
            assert {time for _, time in planned()} >= {time for _, time in before}, change
        service.commands(("schedule", "remove", "hourly"))
        assert planned() == set()
    finally:
        service.api("PATCH", pool, {"is_paused": False})


def test_forms_say_what_each_parameter_is(service: RunningService) -> None:
    for found in service.api("POST", "/deployments/filter", {}):
        if not found["entrypoint"].startswith("flows."):
            continue
        schema = found["parameter_openapi_schema"]
        for name, one in schema["properties"].items():
            assert one.get("description"), (found["name"], name)
        for kind in schema.get("definitions", {}).values():
            for name, one in kind.get("properties", {}).items():
                assert one.get("description") or "$ref" in one, (kind["title"], name)


def test_a_campaign_runs_and_its_report_opens_behind_the_password(
    service: RunningService, manifest_of: Callable[..., Path]
) -> None:
    flow_run = service.start("campaign/campaign", manifest=str(manifest_of("alpha")))
    service.wait(flow_run, "COMPLETED", "FAILED", "CRASHED")
    assert service.state(flow_run) == "COMPLETED", service.api("GET", f"/flow_runs/{flow_run}")["state"]

    artifacts = service.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}})
    (link,) = [one["data"] for one in artifacts if one["key"] == "report"]
    run = service.api("GET", f"/flow_runs/{flow_run}")["labels"]["segem.run"]
    address = f"{service.service.address()}/reports/{run}/index.html"
    assert address in link
    user, _, password = service.service.settings()[PASSWORD].partition(":")
    with httpx.Client(auth=(user, password), trust_env=False, timeout=30) as client:
        assert "alpha" in client.get(address).text
        assert run in client.get(f"{service.service.address()}/reports/").text
        for outside in ("run.json", "..%2frun.json", "%2e%2e/run.json", "/etc/passwd"):
            assert client.get(f"{service.service.address()}/reports/{run}/{outside}").status_code == 404, outside
    assert httpx.get(address, trust_env=False).status_code == 401


@contextmanager
def growing_until_the_end(growing: Path, moving: Path, moved: Path, looked_at: Callable[[], bool]) -> Iterator[None]:
    """Let two files grow while the body runs, one of which is renamed as soon as it is looked at."""
    over = threading.Event()

    def grow() -> None:
        while not over.wait(0.05):
            if moving.exists() and looked_at():
                moving.rename(moved)
            for path in (growing, moved if moved.exists() else moving):
                with path.open("ab") as file:
                    file.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def test_the_inbox_takes_each_good_stack_once_and_names_the_rest(
    service: RunningService, manifest_of: Callable[..., Path], tiny_stacks: Path, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    raw = (tiny_stacks / "alpha" / "raw.tif").read_bytes()
    (inbox / "good.tif").write_bytes(raw)
    (inbox / "duplicate.tif").write_bytes(raw)
    (inbox / "corrupt.tif").write_bytes(b"II*\0 this is no stack")
    (inbox / "other.tif").write_bytes((tiny_stacks / "gamma" / "raw.tif").read_bytes())
    growing, moving, moved = (inbox / f"{name}.tif" for name in ("growing", "moving", "moved"))
    whole = (tiny_stacks / "Beta_2" / "raw.tif").read_bytes()
    growing.write_bytes(whole[:100])
    moving.write_bytes(raw[:200])
    before = {path.name: path.read_bytes() for path in inbox.iterdir()}
    parameters = {"manifest": str(manifest_of("alpha")), "config": {"inbox": str(inbox), "settle_seconds": 3}}

    def look(state: str) -> dict[str, str]:
        flow_run = service.start("campaign-on-new-data/campaign-on-new-data", **parameters)
        service.wait(flow_run, *ENDS)
        found = service.api("GET", f"/flow_runs/{flow_run}")
        assert found["state_type"] == state, found["state"]["message"]
        artifacts = service.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}})
        (rows,) = [json.loads(one["data"]) for one in artifacts if one["key"] == "new-stacks"] or [[]]
        return {row["stack"]: row["what"] for row in rows}

    with growing_until_the_end(
        growing, moving, moved, lambda: list((service.service.workspace / "inbox").glob("*/.lock")) != []
    ):
        what = look("FAILED")
    assert sorted((what["good.tif"], what["duplicate.tif"])) == ["done", "the same as duplicate.tif"]
    assert what["other.tif"] == "done"
    assert "corrupt.tif" in what["corrupt.tif"]
    assert (what["growing.tif"], what["moved.tif"]) == ("still growing", "still growing")
    growing.write_bytes(whole)
    moved.write_bytes(whole[:-1] + b"?")
    assert look("COMPLETED").keys() == {"growing.tif", "moved.tif"}
    for name in ("good.tif", "duplicate.tif", "corrupt.tif", "other.tif"):
        assert (inbox / name).read_bytes() == before[name], "what lies in the inbox is never changed"


def test_a_service_that_just_begins_is_not_drained(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.lock.parent.mkdir(parents=True, exist_ok=True)
    # Its lock is held, and its number not yet written.
    with service.lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(WorkspaceError, match="no service of this workspace runs"):
            drain(tmp_path, print)


def test_a_service_that_ends_finds_everything_again(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    root, log, port = tmp_path / "my lab", tmp_path / "log", free_port()
    with serving(root, log, port) as first:
        login = first.service.settings()[PASSWORD]
        first.deploy_napping()
        gate = make_gate(tmp_path)
        stopped = first.start(NAP, gate=str(gate), restarts=1)
        first.wait(stopped, "RUNNING")
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(240) == 0
        gate.unlink()
        assert first.service.running() is None
    # Without a server, the same commands do the same.
    said = first.commands(
        ("schedule", "add", str(manifest_of("alpha")), "--cron", "0 2 * * *"),
        ("schedule", "list"),
        ("serve", "--drain"),
    )
    assert "It fires while `segem serve` runs." in said[0]
    assert "tiny: 0 2 * * *" in said[1]
    assert "no service of this workspace runs" in said[2]
    with serving(root, log, port) as second:
        assert second.service.settings()[PASSWORD] == login
        assert second.state(stopped) == "CRASHED", "what ran was stopped"
        wait_for(lambda: second.runs_in_place_of(stopped) == ["COMPLETED"], 240, second.service.flows_log)
        assert [one["slug"] for one in second.api("GET", "/deployments/name/campaign/campaign")["schedules"]] == [
            "tiny"
        ]
        gate = make_gate(tmp_path)
        outlives = second.start(NAP, gate=str(gate), restarts=1)
        second.wait(outlives, "RUNNING")
        second.process.kill()
        second.process.wait()
        gate.unlink()
    with serving(root, log, port) as third:
        # It was at work all the time, and waited for an answer where it needed one.
        third.wait(outlives, *ENDS)
        assert third.state(outlives) == "COMPLETED"
        # Drained: what runs is finished, and nothing new is begun.
        gate = make_gate(tmp_path)
        finished = third.start(NAP, gate=str(gate))
        third.wait(finished, "PENDING", "RUNNING")
        waiting = third.start(NAP)
        third.drain(gate)
    with closing(sqlite3.connect(third.service.database)) as database:
        left = dict(database.execute("select id, state_type from flow_run").fetchall())
    assert (left[finished], left[waiting]) == ("COMPLETED", "SCHEDULED")


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "segem",
            "serve",
            "--install",
            "--workspace",
            str(tmp_path / "my lab 5%"),
            "--port",
            "4300",
        ],
        env=clean_environment(XDG_CONFIG_HOME=str(tmp_path / "config")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    unit = tmp_path / "config/systemd/user/segem-my-lab-5.service"
    text = unit.read_text()
    assert f'--workspace "{tmp_path}/my lab 5%%" --port 4300' in text
    assert "KillMode=mixed" in text
    assert f"systemctl --user enable --now {unit.name}" in done.stdout
    assert "loginctl enable-linger" in done.stdout
    if shutil.which("systemd-analyze"):
        assert "finds nothing wrong" in done.stdout
