"""Mail and webhook when a campaign, the weekly look or a look into an inbox has failed.

They are sent by the process that sees it, and not by a server's automation. The same news is told once a day: what is
tried every ten minutes and fails each time would otherwise be filtered away, with all that matters.
"""

from __future__ import annotations

import hashlib
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

from flows.links import is_watched
from segem.config.notices import MailConfig, NoticeConfig, load_notices, require_login
from segem.errors import ConfigError
from segem.stages.campaign import describe_failure
from segem.stages.told import note_told, was_told

SECONDS = 20.0
"""How long a server may take to answer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What is said of something that has failed."""

    name: str
    """What people call it."""
    run: str | None
    """The campaign; None for what is no single one, as the weekly look. That of a flow run where no run is known."""
    state: str
    """``failed``, or ``crashed`` where its process is gone."""
    reason: str
    """In one line, with every volume that failed."""
    workspace: str
    machine: str

    @property
    def subject(self) -> str:
        """The shortest way to say it."""
        return f"segem: {' '.join(self.name.split())} has {self.state}"

    @property
    def news(self) -> str:
        """Digest of what is said, to know it again."""
        return hashlib.sha256("\n".join((self.name, self.state, self.reason)).encode()).hexdigest()

    @property
    def text(self) -> str:
        """All of it, for people."""
        named = self.name[:1].upper() + self.name[1:]
        whose, place = (f"Run {self.run}", f"runs/{self.run}") if self.run else (named, "runs")
        folder = f"{self.workspace}/{place}"
        # What ended before it had a run, or has none, such as a retraining, has left nothing there.
        there = (
            f"Report, status page and records: {folder}" if Path(folder).is_dir() else f"Workspace: {self.workspace}"
        )
        return f"{whose} has {self.state}: {self.reason}\n\nMachine: {self.machine}\n{there}\n"


@dataclass
class Named:
    """What is told of by its name."""

    name: str


@contextmanager
def told_when_red(workspace: Path, name: str, *, of_run: bool = True) -> Iterator[Named]:
    """Tell those who are to know when the body fails; who stops it knows.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, whose settings say who that is.
    name : str
        What to call what is done: a run by its name, all else in words.
    of_run : bool
        Whether it is a run.

    Yields
    ------
    Named
        Takes the name of the run once it is known.

    Raises
    ------
    ConfigError
        Before the body, when those settings are wrong: after a night of work it would be too late.
    """
    notices, named = load_notices(workspace), Named(name)
    try:
        require_login(notices)
    except ConfigError as error:
        # Whoever starts a run by hand sees how it ends, and need not know the password.
        if is_watched():
            raise
        logger.warning("%s", error)
    try:
        yield named
    except Exception as error:
        tell_of(workspace, named.name, "failed", describe_failure(error), of_run=of_run, notices=notices)
        raise
    # Once it has gone well, the same failure is news again.
    for one in {name, named.name}:
        note_told(workspace, one, None)


def tell_of(
    workspace: Path, name: str, state: str, reason: str, *, of_run: bool = True, notices: NoticeConfig | None = None
) -> None:
    """Tell those who are to know how something ended, but the same once a day; what cannot be sent is logged, no more.

    Parameters
    ----------
    workspace : Path
        Root of the workspace.
    name : str
        What to call what was done.
    state : str
        How it ended, as in ``"crashed"``.
    reason : str
        Why.
    of_run : bool
        Whether it is a run.
    notices : NoticeConfig, optional
        Who that is; read from the workspace when absent.
    """
    notice = Notice(name, name if of_run else None, state, reason, str(workspace.absolute()), socket.gethostname())
    if was_told(workspace, name, notice.news):
        return
    reached = False
    try:
        notices = notices or load_notices(workspace)
        if notices.mail is not None:
            _send_mail(notice, notices.mail)
            reached = True
    # Neither the address of a webhook nor a password may stand in a log: only the kind of error does.
    except Exception as error:
        logger.warning("%s: nobody could be told by mail (%s)", name, type(error).__name__)
    try:
        if notices is not None and notices.webhook is not None:
            _post(notice, str(notices.webhook.get_secret_value()))
            reached = True
    except Exception as error:
        logger.warning("%s: nobody could be told by webhook (%s)", name, type(error).__name__)
    if reached:
        note_told(workspace, name, notice.news)


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
