"""Who is told when a campaign has failed: ``notices.toml`` of a workspace."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, Secret, SecretStr

from segem.config.base import Config
from segem.config.parsing import parse
from segem.errors import ConfigError

FILE = "notices.toml"
PASSWORD, WEBHOOK = "SEGEM_SMTP_PASSWORD", "SEGEM_WEBHOOK"
"""Variables that keep what is secret out of the file."""

Address = Annotated[str, Field(pattern=r"^[^@\s<>,;]+@[^@\s<>,;]+$")]


class MailConfig(Config):
    """Mail, and the server that takes it."""

    to: tuple[Address, ...] = Field(min_length=1)
    """Who gets it."""
    sender: Address
    """Whom it is from."""
    host: str = "127.0.0.1"
    """The mail server."""
    port: int = Field(default=25, ge=1, lt=2**16)
    """Its port: 25 on this machine, mostly 587 with ``starttls`` and 465 with ``tls``."""
    security: Literal["none", "starttls", "tls"] = "none"
    """How the connection is encrypted; a password is never sent over one that is not."""
    user: str | None = None
    """Name to log in with."""
    password: SecretStr | None = None
    """Password; better in the variable ``SEGEM_SMTP_PASSWORD``."""


class NoticeConfig(Config):
    """Who is told when a campaign has failed."""

    mail: MailConfig | None = None
    """By mail."""
    webhook: Secret[HttpUrl] | None = None
    """By a POST of JSON to this address; better in the variable ``SEGEM_WEBHOOK``, since it often holds a token."""


def load_notices(workspace: Path) -> NoticeConfig:
    """Read who is told when a campaign of a workspace has failed; nobody where nothing is set.

    Parameters
    ----------
    workspace : Path
        Its folder, which may hold ``notices.toml``.

    Returns
    -------
    NoticeConfig

    Raises
    ------
    ConfigError
        When the file is wrong, others may read the password in it, or the password would be sent unencrypted.
    """
    file = workspace / FILE
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise ConfigError("who is told of failures cannot be read", where=file, found=error, fix="mend it") from None
    mail = values.get("mail")
    written = "webhook" in values or (isinstance(mail, dict) and "password" in mail)
    if written and file.stat().st_mode & 0o077:
        raise ConfigError(
            "others may read the secrets in this file",
            where=file,
            fix=f"chmod 600 it, or keep them in {PASSWORD} and {WEBHOOK}",
        )
    if isinstance(mail, dict) and PASSWORD in os.environ:
        values["mail"] = mail | {"password": os.environ[PASSWORD]}
    if WEBHOOK in os.environ:
        values["webhook"] = os.environ[WEBHOOK]
    found = parse(NoticeConfig, values, where=file)
    if found.mail is not None and found.mail.password is not None and found.mail.security == "none":
        raise ConfigError("the password would be sent unencrypted", where=file, fix="set security to starttls or tls")
    return found


def require_login(notices: NoticeConfig) -> None:
    """Raise where a mail server would refuse the mail, for want of half of what it takes to log in.

    Raises
    ------
    ConfigError
        As where the variable with the password is set in a shell, and not where a service runs.
    """
    mail = notices.mail
    if mail is not None and (mail.user is None) != (mail.password is None):
        raise ConfigError(
            f"mail has no {'password' if mail.password is None else 'user'} to log in with",
            where=FILE,
            fix=f"give both, the password by the variable {PASSWORD} where segem runs, or neither",
        )
