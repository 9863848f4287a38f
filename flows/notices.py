"""Mail and webhook when a campaign or the weekly look has failed.

They are sent by the process that sees it, and not by a server's automation.
"""

from __future__ import annotations

import json
import logging
import smtplib
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from pathlib import Path

from segem.config.notices import MailConfig, NoticeConfig, load_notices
from segem.stages.campaign import describe_failure

SECONDS = 20.0
"""How long a server may take to answer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What is said of a campaign, or of the weekly look, that has failed."""

    run: str | None
    """None for the weekly look, which is at all of them; that of a flow run where no run of the workspace is known."""
    state: str
    """``failed``, or ``crashed`` where its process is gone."""
    reason: str
    """In one line, with every volume that failed."""
    workspace: str
    machine: str

    @property
    def subject(self) -> str:
        """The shortest way to say it."""
        return f"segem: {' '.join(_name(self.run).split())} has {self.state}"

    @property
    def text(self) -> str:
        """All of it, for people."""
        whose, place = (f"Run {self.run}", f"runs/{self.run}") if self.run else (_name(None).capitalize(), "runs")
        folder = f"{self.workspace}/{place}"
        # What ended before it had a run, or has none, such as a retraining, has left nothing there.
        there = (
            f"Report, status page and records: {folder}" if Path(folder).is_dir() else f"Workspace: {self.workspace}"
        )
        return f"{whose} has {self.state}: {self.reason}\n\nMachine: {self.machine}\n{there}\n"


def _name(run: str | None) -> str:
    return run or "the weekly look at all runs"


@contextmanager
def told_when_red(workspace: Path, run: str | None) -> Iterator[None]:
    """Tell those who are to know when the body fails; who stops it knows.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, whose settings say who that is.
    run : str or None
        What to call the campaign; None for the weekly look at all runs.

    Raises
    ------
    ConfigError
        Before the body, when those settings are wrong: after a night of work it would be too late.
    """
    notices = load_notices(workspace)
    try:
        yield
    except Exception as error:
        tell_of(workspace, run, "failed", describe_failure(error), notices)
        raise


def tell_of(workspace: Path, run: str | None, state: str, reason: str, notices: NoticeConfig | None = None) -> None:
    """Tell those who are to know how a campaign or the weekly look ended; what cannot be sent is logged, no more.

    Parameters
    ----------
    workspace : Path
        Root of the workspace.
    run : str or None
        What to call the campaign; None for the weekly look.
    state : str
        How it ended, as in ``"crashed"``.
    reason : str
        Why.
    notices : NoticeConfig, optional
        Who that is; read from the workspace when absent.
    """
    notice = Notice(run, state, reason, str(workspace.absolute()), socket.gethostname())
    try:
        notices = notices or load_notices(workspace)
        if notices.mail is not None:
            _send_mail(notice, notices.mail)
    # Neither the address of a webhook nor a password may stand in a log: only the kind of error does.
    except Exception as error:
        logger.warning("%s: nobody could be told by mail (%s)", _name(run), type(error).__name__)
    try:
        if notices is not None and notices.webhook is not None:
            _post(notice, str(notices.webhook.get_secret_value()))
    except Exception as error:
        logger.warning("%s: nobody could be told by webhook (%s)", _name(run), type(error).__name__)


def _send_mail(notice: Notice, mail: MailConfig) -> None:
    message = EmailMessage()
    message["Subject"] = notice.subject
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message.set_content(notice.text)
    context = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(mail.host, mail.port, timeout=SECONDS, context=context)
        if mail.security == "tls"
        else smtplib.SMTP(mail.host, mail.port, timeout=SECONDS)
    ) as server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user is not None and mail.password is not None:
            server.login(mail.user, mail.password.get_secret_value())
        server.send_message(message)


def _post(notice: Notice, url: str) -> None:
    # Chat programs show what is under "text"; the rest is for programs.
    body = json.dumps({"text": notice.text, **asdict(notice)}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http or https only
    with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310
        pass
