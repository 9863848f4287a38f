"""What `run_campaign` promises: nothing to start, nothing exposed, nothing left behind, plain errors."""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.launch.local import run_campaign, use_prefect
from segem.errors import ConfigError, IncompleteError, WorkspaceError
from segem.serving import THREAD
from segem.stages.campaign import hold_run, open_campaign
from tests.processes import ROOT, clean_environment, listening, python, started, wait_for

RUN = """
import json, sys
from pathlib import Path
from segem.errors import SegemError
from segem.stages.campaign import open_campaign
from segem.progress import warnings_told
from flows.launch.local import run_campaign
manifest, workspace = sys.argv[1:]
try:
    with warnings_told():
        outcome = run_campaign(open_campaign(Path(manifest), "r1", Path(workspace)))
    print(outcome.report)
except SegemError as error:
    sys.exit(f"error: {error}")
"""

PROBE = """
import base64, json, os, sys, urllib.error, urllib.request
from pathlib import Path
from flows.launch.local import use_prefect

def status(url, body={"name": "planted", "value": "1"}, **headers):
    body = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

with use_prefect(Path(sys.argv[1])):
    import psutil
    from prefect import flow
    from prefect.settings import PREFECT_API_URL

    @flow
    def trivial():
        return 3

    me = psutil.Process()
    url, read = (PREFECT_API_URL.value() + path for path in ("/variables/", "/admin/version"))
    password = "Basic " + base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
    print(json.dumps({
        "result": trivial(),
        "listens": sorted({c.laddr.ip for c in me.net_connections() if c.status == psutil.CONN_LISTEN}),
        "children": len(me.children(recursive=True)),
        "stranger": status(url, Host="evil.example", Origin="http://evil.example"),
        "anonymous": status(url),
        "guess": status(url, Authorization="Basic c2VnZW06c2VnZW0="),
        "owner": status(read, None, Authorization=password),
        "rebound": status(read, None, Authorization=password, Host="evil.example"),
        "forged": status(read, None, Authorization=password, Origin="http://evil.example"),
    }), flush=True)
"""

WAIT = """
import signal, sys, time
from pathlib import Path
from flows.launch.local import use_prefect
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs deaf to it
with use_prefect(Path(sys.argv[1])):
    from prefect import flow, task

    @task
    def nap():
        print("asleep", flush=True)
        while True:
            time.sleep(0.1)

    @flow
    def long():
        nap()

    long()
"""


LOGS = """
import json, sys
from pathlib import Path
from flows.launch.local import use_prefect
from segem.config import IngestConfig
from segem.progress import warnings_told
raw, workspace = map(Path, sys.argv[1:])
with warnings_told(), use_prefect(workspace.parent / "home"):
    from prefect.client.orchestration import get_client
    from prefect.logging.handlers import APILogHandler
    from flows.ingest import ingest_volume
    source = IngestConfig(
        name="v", source=raw, voxel_nm=(50, 4, 4), labels={"source": raw, "membrane": "nonzero"}
    )
    for _ in range(2):
        ingest_volume(source, workspace)
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        lines = client.read_logs()
    print(json.dumps([(line.level, line.message) for line in lines if line.name.startswith("segem.")]))
"""


def states(home: Path) -> list[str]:
    """Return the state of each flow run that a Prefect home remembers, oldest first."""
    with sqlite3.connect(home / "prefect.db") as database:
        return [state for (state,) in database.execute("select state_type from flow_run order by created")]


def test_importing_the_launcher_does_not_import_prefect() -> None:
    code = "import sys, flows.launch.local; sys.exit('prefect' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run(python(code), env=clean_environment(), cwd=ROOT, check=False).returncode == 0


def test_a_run_in_use_is_refused_before_anything_starts(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    job = open_campaign(manifest_of("alpha"), "r1", tmp_path / "w")
    with hold_run(job), pytest.raises(WorkspaceError, match="run r1 cannot start"):
        run_campaign(job)
    assert not (tmp_path / "w" / ".prefect").exists()
    assert not (tmp_path / "w" / "runs" / "r1" / "run.json").exists()


def test_a_server_of_the_user_is_used(prefect_server: None, manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    outcome = run_campaign(open_campaign(manifest_of("alpha"), "r1", tmp_path / "w"))

    assert outcome.report.is_file()
    assert not (tmp_path / "w" / ".prefect").exists()
    assert THREAD not in {thread.name for thread in threading.enumerate()}


def test_a_server_that_does_not_answer_is_named(prefect_server: None, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    nobody = "http://127.0.0.1:9/api"
    with (
        temporary_settings({PREFECT_API_URL: nobody}),
        pytest.raises(ConfigError, match=nobody),
        use_prefect(tmp_path),
    ):
        pass


@pytest.mark.skipif(find_spec("socksio") is not None, reason="SOCKS proxies work here")
def test_a_proxy_that_keeps_from_the_server_is_named(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ConfigError, match=r"a proxy of this machine needs a package.*unset the variable"),
        use_prefect(tmp_path),
    ):
        pass


def test_failed_volumes_reach_the_caller_as_one_line(
    prefect_server: None, manifest_of: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of("alpha", "gamma", changes={"gamma": {"source": str(tmp_path / "nowhere.tif")}})

    with pytest.raises(IncompleteError, match=r"1 of 2 volumes failed; found gamma .*nowhere\.tif") as caught:
        run_campaign(open_campaign(manifest, "r1", tmp_path / "w"))

    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.server
class TestPrivateServer:
    """What needs a process of its own, since Prefect reads its settings once."""

    def test_a_campaign_needs_nothing_started(self, manifest_of: Callable[..., Path], tmp_path: Path) -> None:
        manifest = manifest_of("alpha", "gamma", changes={"gamma": {"source": str(tmp_path / "nowhere.tif")}})
        # A proxy that nobody runs: traffic to the private server must not take it.
        environment = clean_environment(
            HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9", ALL_PROXY="socks5://127.0.0.1:9"
        )

        done = subprocess.run(
            [*python(RUN), str(manifest), str(tmp_path / "w")],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

        assert done.returncode == 1
        (error,) = (line for line in done.stderr.splitlines() if not line.startswith("warning: alpha: "))
        assert error.startswith("error: r1: 1 of 2 volumes failed; found gamma ")
        values = json.loads((tmp_path / "w/runs/r1/report/report.json").read_text())
        assert [volume["state"] for volume in values["volumes"]] == ["complete", "failed"]
        assert states(tmp_path / "w/.prefect") == ["FAILED"]

    def test_what_a_step_logs_is_on_the_pages_of_its_run(self, tiny_stacks: Path, tmp_path: Path) -> None:
        done = subprocess.run(
            [*python(LOGS), str(tiny_stacks / "alpha/raw.tif"), str(tmp_path / "w")],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        warnings = [line.removeprefix("warning: ") for line in done.stderr.splitlines()]
        assert warnings[0] == "v: 100% of the labels is membrane: check the polarity (now: nonzero)"
        assert len(warnings) == 2
        assert json.loads(done.stdout) == [
            [logging.INFO, "v: ingested, 2 sections of 96 x 80 px, voxels of 50,4,4 nm (given)"],
            *([logging.WARNING, warning] for warning in warnings),
            [logging.INFO, "v: up to date, nothing to ingest"],
        ]

    def test_it_is_closed_to_strangers(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [*python(PROBE), str(tmp_path / "home")],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["result"] == 3
        assert found["listens"] == ["127.0.0.1"]
        assert found["children"] == 0
        assert {found["stranger"], found["anonymous"], found["guess"]} <= {401, 403}
        # A browser may know the password: no page of another site is answered by that.
        assert (found["owner"], found["rebound"], found["forged"]) == (200, 403, 403)

    def test_it_leaves_the_servers_of_others_alone(self, tmp_path: Path) -> None:
        users, own = tmp_path / "users", tmp_path / "own"
        users.mkdir()
        database = f"sqlite+aiosqlite:///{users}/prefect.db"
        done = subprocess.run(
            [*python(f"{PROBE}\nimport os\nprint(os.environ['PREFECT_HOME'])"), str(own)],
            env=clean_environment(PREFECT_HOME=str(users), PREFECT_API_DATABASE_CONNECTION_URL=database),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert states(own) == ["COMPLETED"]
        assert not (users / "prefect.db").exists()
        assert done.stdout.splitlines()[-1] == str(users)

    @pytest.mark.slow
    def test_it_ends_with_its_process_however_that_ends(self, tmp_path: Path) -> None:
        home, log = tmp_path / "home", tmp_path / "log"
        ended = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            log.write_bytes(b"")
            with started([*python(WAIT), str(home)], log, clean_environment()) as process:
                wait_for(lambda: b"asleep" in log.read_bytes(), 120, log)
                assert listening(process.pid) == {"127.0.0.1"}
                assert psutil.Process(process.pid).children() == [], "there is no second process to leave behind"
                process.send_signal(number)
                ended.append(process.wait(120))
        assert ended == [-signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGKILL]
        assert states(home) == ["CRASHED", "CRASHED", "RUNNING"]

        subprocess.run([*python(PROBE), str(home)], env=clean_environment(), cwd=ROOT, check=True, timeout=180)
        assert states(home) == ["CRASHED", "CRASHED", "CRASHED", "COMPLETED"], "a dead run is closed by the next one"

    def test_a_damaged_history_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "prefect.db").write_bytes(b"this is no database" * 100)
        done = subprocess.run(
            [*python(PROBE), str(tmp_path)],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

        assert done.returncode == 1
        assert f"WorkspaceError: {tmp_path}: Prefect's server does not start" in done.stderr
