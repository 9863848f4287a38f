"""A Prefect server for the session, and data so small that a whole campaign takes a second or two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml

from flows.launch.deployments import POOL
from flows.launch.local import PREFECT_SETTINGS
from flows.launch.service import PASSWORD, Service
from segem.config import SynthConfig
from segem.learn.artefact import save_artefact
from segem.learn.models.registry import build
from segem.records.card import ModelCard
from segem.stages.volumes.synth import synth
from tests.processes import PATIENCE, ROOT, clean_environment, free_port, started, wait_for

OPTIONS = {"features": 2, "depth": 2}


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Serve Prefect to the flows of this session, away from the user's own files."""
    os.environ.update({**PREFECT_SETTINGS, "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))})
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artefact of a U-Net with a handful of random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    card = ModelCard(name="tiny", architecture="unet", options=OPTIONS, threshold=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_artefact(folder, card, build("unet", OPTIONS))
    return folder


@pytest.fixture(scope="session")
def tiny_stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three stacks of two sections and their truth."""
    root = tmp_path_factory.mktemp("stacks")
    for seed, name in enumerate(("alpha", "Beta_2", "gamma")):
        synth(root / name, SynthConfig(shape=(2, 96, 80), seed=seed))
    return root


@pytest.fixture
def manifest_of(tmp_path: Path, tiny_stacks: Path, tiny_model: Path) -> Callable[..., Path]:
    """Return a function that writes a manifest of the named stacks; `changes` replaces keys of single volumes."""

    def write(*names: str, model: str | Path = tiny_model, changes: dict[str, dict[str, Any]] | None = None) -> Path:
        volumes = [
            {
                "name": name,
                "source": str(tiny_stacks / name / "raw.tif"),
                "voxel_nm": [50, 4, 4],
                "labels": {"source": str(tiny_stacks / name / "truth.tif"), "membrane": "nonzero"},
                **(changes or {}).get(name, {}),
            }
            for name in names
        ]
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump({"name": "tiny", "model": str(model), "volumes": volumes}), encoding="utf-8")
        return path

    return write


NAP = "napping/napping"
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def make_gate(folder: Path) -> Path:
    """Return a file that keeps a napping flow asleep until it is removed."""
    gate = folder / f"gate-{len(list(folder.glob('gate-*')))}"
    gate.touch()
    return gate


COMMANDS = """
import json, sys
from typer.testing import CliRunner
from segem.cli import app
workspace, commands = sys.argv[1], json.loads(sys.argv[2])
done = [CliRunner().invoke(app, [*command, "--workspace", workspace]) for command in commands]
print(json.dumps([one.output if one.exit_code == 0 else f"{one.output}{one.exception}" for one in done]))
"""


@dataclass(frozen=True)
class RunningService:
    """A service of the whole session, with what its clients need."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"{self.service.address()}/api"

    def segem(self, *arguments: str, code: int = 0) -> str:
        """Run a command on the workspace of the service, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "segem", *arguments, "--workspace", str(self.service.workspace)],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def drain(self, gate: Path) -> None:
        """Drain the service; open the gate once nothing new is started, and wait until the service has ended."""
        command = [sys.executable, "-m", "segem", "serve", "--drain", "--workspace", str(self.service.workspace)]
        with started(command, self.log.with_name("drain.log"), clean_environment()) as drain:
            wait_for(lambda: b"drain: nothing new is started" in self.log.read_bytes(), 240, self.log)
            gate.unlink()
            assert self.process.wait(240) == 0
            assert drain.wait(240) == 0

    def commands(self, *commands: tuple[str, ...]) -> list[str]:
        """Run several commands on the workspace in one process, and return what each one prints or complains of."""
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, str(self.service.workspace), json.dumps(commands)],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said: list[str] = json.loads(done.stdout.splitlines()[-1])
        return said

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Send a request as somebody who knows the password, and return what is answered."""
        user, _, password = self.service.settings()[PASSWORD].partition(":")
        with httpx.Client(base_url=self.url, auth=(user, password), trust_env=False, timeout=30 * PATIENCE) as client:

            def ask(*request: str, **more: Any) -> httpx.Response:
                # A busy server asks its clients to come back, or is silent for long; Prefect's own come back after
                # both. What changes nothing may be asked again.
                harmless = request[0] == "GET" or request[1].endswith("/filter")
                for attempt in range(10):
                    try:
                        answer = client.request(*request, **more)
                    except httpx.ReadTimeout:
                        if attempt == 9 or not harmless:
                            raise
                        continue
                    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        break
                    time.sleep(1)
                return answer.raise_for_status()

            token = ask("GET", "/csrf-token", params={"client": "tests"}).json()["token"]
            headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
            answer = ask(method, path, json=body, headers=headers)
        return answer.json() if answer.content else None

    def deploy_napping(self) -> None:
        """Deploy the flow of `tests/flows/napping.py`, to run once at a time."""
        flow = self.api("POST", "/flows/", {"name": "napping"})
        self.api(
            "POST",
            "/deployments/",
            {
                "name": "napping",
                "flow_id": flow["id"],
                "entrypoint": "tests/flows/napping.py:napping",
                "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
                "work_pool_name": POOL,
                "concurrency_limit": 1,
                "concurrency_options": {"collision_strategy": "ENQUEUE"},
            },
        )

    def runs_in_place_of(self, flow_run: str) -> list[str]:
        """Return the states of the runs that were started because a run had died."""
        found = self.api("POST", "/flow_runs/filter", {})
        return [one["state_type"] for one in found if (one["labels"] or {}).get("segem.first-run") == flow_run]

    def start(self, deployment: str, **parameters: object) -> str:
        """Start a run of a deployment, and return its id."""
        found = self.api("GET", f"/deployments/name/{deployment}")
        return str(self.api("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"])

    def state(self, flow_run: str) -> str:
        """Return the state of a run, as in ``"COMPLETED"``."""
        return str(self.api("GET", f"/flow_runs/{flow_run}")["state_type"])

    def wait(self, flow_run: str, *states: str, seconds: float = 240) -> None:
        """Wait until a run is in one of some states."""
        wait_for(lambda: self.state(flow_run) in states, seconds, self.service.flows_log)


@contextmanager
def serving(workspace: Path, log: Path, port: int | None = None) -> Iterator[RunningService]:
    """Serve a workspace as a user would, with everything that waits made quick."""
    port = port or free_port()
    quick = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_PREFETCH_SECONDS": "1",
        "SEGEM_REAP_SECONDS": "0.5",
    }
    command = [sys.executable, "-m", "segem", "serve", "--workspace", str(workspace), "--port", str(port)]
    log.write_bytes(b"")
    with started(command, log, clean_environment(**quick)) as process:
        wait_for(lambda: b"tunnel:" in log.read_bytes() or process.poll() is not None, 240, log)
        assert process.poll() is None, log.read_text()
        yield RunningService(Service(workspace), process, log)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Return a service that no test stops."""
    root = tmp_path_factory.mktemp("service")
    with serving(root / "w", root / "log") as running:
        yield running
