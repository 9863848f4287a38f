"""Who is told when a campaign fails: against a mail server and a web server of the tests."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from email import message_from_string, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from flows.campaign import campaign
from flows.inbox import campaign_on_new_data, look_step
from flows.launch.checks import check_service
from flows.launch.service import Service
from flows.links import VARIABLE
from flows.notices import tell_of, told_when_red
from flows.verify import verify_step, verify_weekly
from segem.config.notices import load_notices
from segem.config.service import InboxConfig
from segem.errors import ConfigError, IncompleteError, InputError
from tests.fabricate import new_workspace
from tests.processes import free_port


class Box:
    """Takes mail, and keeps it."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], str]] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


@pytest.fixture
def box() -> Iterator[tuple[Box, int]]:
    found, port = Box(), free_port()
    controller = Controller(found, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield found, port
    finally:
        controller.stop()


@pytest.fixture
def hook() -> Iterator[tuple[list[dict[str, Any]], str]]:
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield posted, f"http://127.0.0.1:{server.server_port}/token-abc"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write(workspace: Path, text: str, mode: int = 0o600) -> None:
    (workspace / "notices.toml").write_text(text)
    (workspace / "notices.toml").chmod(mode)


def mail_to(port: int, more: str = "") -> str:
    return f'[mail]\nto = ["ann@lab.example"]\nsender = "segem@lab.example"\nport = {port}\n{more}'


def test_a_failed_campaign_is_told_by_mail_and_webhook(
    box: tuple[Box, int],
    hook: tuple[list[dict[str, Any]], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path, mail_to(box[1]), 0o644)
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])
    (tmp_path / "runs/monday").mkdir(parents=True)

    with pytest.raises(IncompleteError), told_when_red(tmp_path, "monday"):
        raise IncompleteError("1 of 3 volumes failed", found="b (no such file)")

    ((to, mail),) = box[0].mails
    assert to == ["ann@lab.example"]
    read = message_from_string(mail, policy=policy.default)
    assert read["Subject"] == "segem: monday has failed"
    body = read.get_content()
    assert "1 of 3 volumes failed; found b (no such file)" in body
    assert f"{tmp_path}/runs/monday" in body
    (posted,) = hook[0]
    assert (posted["run"], posted["state"]) == ("monday", "failed")
    assert "b (no such file)" in posted["text"]


@pytest.mark.usefixtures("prefect_server")
def test_the_weekly_look_tells_what_it_finds(
    hook: tuple[list[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])
    # A record that is damaged now will be so in a few seconds too.
    monkeypatch.setattr("flows.verify.verify_step", verify_step.with_options(retries=0))
    run = new_workspace(tmp_path).run("monday")
    run.mkdir(parents=True)
    (run / "run.json").write_text("{")

    with pytest.raises(IncompleteError, match="1 of 1 runs are not whole"):
        verify_weekly(tmp_path)

    (posted,) = hook[0]
    assert (posted["name"], posted["run"], posted["state"]) == ("the weekly look at all runs", None, "failed")
    assert posted["text"].startswith("The weekly look at all runs has failed: ")
    assert "1 of 1 runs are not whole" in posted["text"]
    assert "monday, -: " in posted["text"]
    assert f"{tmp_path}/runs\n" in posted["text"]


def test_the_same_news_is_told_once_a_day_and_again_when_it_has_gone_well_between(
    hook: tuple[list[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])

    def fail(name: str, reason: str) -> None:
        with pytest.raises(InputError), told_when_red(tmp_path, name):
            raise InputError(reason)

    def reasons() -> list[str]:
        return [posted["reason"] for posted in hook[0]]

    fail("monday", "no model")
    fail("monday", "no model")
    assert reasons() == ["no model"]
    fail("monday", "no disk")
    fail("tuesday", "no disk")
    assert reasons() == ["no model", "no disk", "no disk"]
    with told_when_red(tmp_path, "tuesday"):
        pass
    fail("monday", "no disk")
    fail("tuesday", "no disk")
    assert reasons() == ["no model", "no disk", "no disk", "no disk"]
    told = json.loads((tmp_path / "told.json").read_text())
    told["monday"]["at"] -= 24 * 3600
    (tmp_path / "told.json").write_text(json.dumps(told))
    fail("monday", "no disk")
    assert len(reasons()) == 5


def test_what_reached_nobody_is_told_again(
    hook: tuple[list[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEM_WEBHOOK", f"http://127.0.0.1:{free_port()}/")
    tell_of(tmp_path, "monday", "crashed", "its process is gone")
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])
    tell_of(tmp_path, "monday", "crashed", "its process is gone")
    assert [posted["run"] for posted in hook[0]] == ["monday"]


@pytest.mark.usefixtures("prefect_server")
def test_an_inbox_that_is_gone_is_told(
    hook: tuple[list[dict[str, Any]], str],
    manifest_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])
    monkeypatch.setattr("flows.inbox.look_step", look_step.with_options(retries=0))
    with pytest.raises(InputError, match="no such inbox"):
        campaign_on_new_data(manifest_of("alpha"), InboxConfig(inbox=tmp_path / "gone"), tmp_path / "w")
    (posted,) = hook[0]
    assert posted["text"].startswith(f"The look into {tmp_path / 'gone'} has failed: ")
    assert "no such inbox" in posted["reason"]


@pytest.mark.usefixtures("prefect_server")
def test_a_campaign_that_nobody_named_is_told_by_the_name_of_its_run(
    hook: tuple[list[dict[str, Any]], str],
    manifest_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])
    nowhere = {"alpha": {"source": str(tmp_path / "nowhere.tif"), "labels": None}}
    assert campaign(manifest_of("alpha", changes=nowhere), workspace=tmp_path / "w", return_state=True).is_failed()
    # And once, though it is tried twice.
    assert campaign(manifest_of("alpha", changes=nowhere), workspace=tmp_path / "w", return_state=True).is_failed()
    (posted,) = hook[0]
    (run,) = (tmp_path / "w/runs").iterdir()
    assert posted["run"] == run.name
    assert f"{run}\n" in posted["text"]


def test_what_has_no_run_is_told_with_the_workspace(
    hook: tuple[list[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGEM_WEBHOOK", hook[1])
    tell_of(tmp_path, "retrain mine", "crashed", "its process ended unexpectedly")
    assert hook[0][0]["text"].endswith(f"\nWorkspace: {tmp_path}\n")


def test_what_ended_well_or_was_stopped_tells_nobody(box: tuple[Box, int], tmp_path: Path) -> None:
    write(tmp_path, mail_to(box[1]))
    with told_when_red(tmp_path, "monday"):
        pass
    with pytest.raises(KeyboardInterrupt), told_when_red(tmp_path, "monday"):
        raise KeyboardInterrupt
    assert box[0].mails == []


def test_servers_that_are_gone_cost_a_warning_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, mail_to(free_port()))
    monkeypatch.setenv("SEGEM_WEBHOOK", f"http://127.0.0.1:{free_port()}/token-abc")
    with caplog.at_level(logging.WARNING):
        tell_of(tmp_path, "monday", "crashed", "its process is gone")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "token-abc" not in caplog.text


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        ('webhook = "https://chat.example/token"', 0o644, "others may read"),
        (mail_to(25, 'password = "abc"\nsecurity = "tls"'), 0o640, "others may read"),
        (mail_to(25, 'password = "abc"'), 0o600, "unencrypted"),
        ('[mail]\nto = ["ann@lab.example\\nBcc: x@y"]\nsender = "a@b"', 0o600, "to"),
        ('webhook = "file:///etc/passwd"', 0o600, "webhook"),
        ("[mail", 0o600, "cannot be read"),
        ("letter = true", 0o600, "letter"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(tmp_path: Path, text: str, mode: int, what: str) -> None:
    write(tmp_path, text, mode)
    with pytest.raises(ConfigError, match=what) as caught, told_when_red(tmp_path, "monday"):
        pytest.fail("the body must not run")
    assert "abc" not in str(caught.value)


def test_secrets_that_are_wrong_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, mail_to(465, 'security = "tls"\npassword = 12345678'))
    with pytest.raises(ConfigError, match="password: must be text") as caught:
        load_notices(tmp_path)
    assert "12345678" not in str(caught.value)
    write(tmp_path, "")
    monkeypatch.setenv("SEGEM_WEBHOOK", "chat.example/token-abc")
    with pytest.raises(ConfigError, match="webhook: must be a valid URL") as caught:
        load_notices(tmp_path)
    assert "token-abc" not in str(caught.value)


@pytest.mark.parametrize(("given", "missing"), [('user = "segem"', "password"), ('password = "abc"', "user")])
def test_half_a_login_is_refused_where_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: str, missing: str
) -> None:
    write(tmp_path, mail_to(587, f'{given}\nsecurity = "starttls"'))
    with caplog.at_level(logging.WARNING), told_when_red(tmp_path, "monday"):
        pass
    assert f"mail has no {missing} to log in with" in caplog.text
    (told,) = check_service(Service(tmp_path))
    assert told.state == "bad"
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=f"no {missing} to log in with"), told_when_red(tmp_path, "monday"):
        pytest.fail("the body must not run")


def test_the_doctor_says_who_is_told_and_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGEM_WEBHOOK", raising=False)
    assert list(check_service(Service(tmp_path))) == []
    write(tmp_path, mail_to(25))
    monkeypatch.setenv("SEGEM_WEBHOOK", "https://chat.example/token-abc")
    (told,) = check_service(Service(tmp_path))
    assert (told.state, told.text) == ("ok", "failures are told by mail to ann@lab.example and by a webhook")
    write(tmp_path, 'webhook = "https://chat.example/token"', 0o644)
    (wrong,) = check_service(Service(tmp_path))
    assert wrong.state == "bad"
    assert "others may read" in wrong.text


def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, mail_to(587, 'user = "segem"\nsecurity = "starttls"'))
    monkeypatch.setenv("SEGEM_SMTP_PASSWORD", "hidden-one")
    found = load_notices(tmp_path)
    assert found.mail is not None
    assert found.mail.password is not None
    assert found.mail.password.get_secret_value() == "hidden-one"
    assert "hidden-one" not in f"{found!r} {found.model_dump_json()}"
