"""Who may review a run: people with a token each, entered in the log of the review."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from segem.errors import ConfigError
from segem.io.reviews import ReviewLog

LONGEST_NAME = 80


def invite(log: ReviewLog, name: str, author: str) -> str:
    """Let a person review, and return the secret to give to them; a token they had before holds no longer.

    Only its digest is kept.

    Parameters
    ----------
    log : ReviewLog
        Of the run.
    name : str
        The person.
    author : str
        Who invites them.

    Raises
    ------
    ConfigError
        When the name is empty, too long or not printable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder, ReviewLog(Path(folder) / "reviews.sqlite") as log:
    ...     find_reviewer(log, invite(log, "Ana", "me"))
    'Ana'
    """
    token = secrets.token_urlsafe(32)
    log.note("invite", {"name": check_reviewer(name), "token_sha256": _digest_of_token(token)}, author)
    return token


def revoke(log: ReviewLog, name: str, author: str) -> None:
    """Let a person review no longer, from the next request on.

    Raises
    ------
    ConfigError
        When nobody of this name may.
    """
    invited = _list_invited(log)
    if name not in invited:
        known = ", ".join(sorted(invited)) or "nobody"
        raise ConfigError("no such reviewer", where=name, found=known, fix="choose one of these")
    log.note("revoke", {"name": name}, author)


def find_reviewer(log: ReviewLog, token: str) -> str | None:
    """Return who holds a token; None where nobody does, or it was revoked."""
    given = _digest_of_token(token)
    return next((name for name, digest in _list_invited(log).items() if hmac.compare_digest(digest, given)), None)


def list_reviewers(log: ReviewLog) -> tuple[str, ...]:
    """Return who may review a run, but for the person who serves it."""
    return tuple(sorted(_list_invited(log)))


def check_reviewer(name: str) -> str:
    """Return the name of a person if it can stand in a log, else raise.

    Raises
    ------
    ConfigError
        When it is empty, too long or not printable.

    Examples
    --------
    >>> check_reviewer("Ana Müller")
    'Ana Müller'
    """
    if not (name.strip() and name.isprintable() and len(name) <= LONGEST_NAME):
        raise ConfigError(
            "not a name of a reviewer", found=repr(name[:100]), fix=f"use 1 to {LONGEST_NAME} printable characters"
        )
    return name.strip()


def _list_invited(log: ReviewLog) -> dict[str, str]:
    """Return the digests of the tokens that hold, by the names of the people."""
    invited: dict[str, str] = {}
    for one in log.entries(("invite", "revoke")):
        name = str(one.detail["name"])
        invited.pop(name, None)
        if one.kind == "invite":
            invited[name] = str(one.detail["token_sha256"])
    return invited


def _digest_of_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
