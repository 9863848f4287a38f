"""Downloads what others publish: from the first mirror that gives it, resumed where it broke off, and checked."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segem
from segem.errors import InputError
from segem.io.files import disk_errors
from segem.io.unpack import require_room
from segem.progress import track

if TYPE_CHECKING:
    from requests import Response

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
"""How long to wait for a connection, and for the next byte."""
PAUSE_SECONDS = 1.0
_MOST_BREAKS = 5
_ENOUGH = 2**20
"""A connection that breaks off after so many bytes was of use."""
_PIECE = 2**18


class _RefusedError(Exception):
    """Why a mirror does not give the file."""


@dataclass(frozen=True)
class Remote:
    """A file that others publish.

    Parameters
    ----------
    name : str
        What to call it here.
    urls : tuple of str
        Where it is, the best place first; all give the same bytes.
    checksum : str, optional
        As in ``"sha256:..."`` or ``"md5:..."``; None where none is known.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None = None


def fetch(remote: Remote, folder: Path) -> Path:
    """Download a file, unless it is there.

    Parameters
    ----------
    remote : Remote
        The file. Where its checksum is known, no other bytes are taken.
    folder : Path
        Where to put it. What an interrupted download has left there is used.

    Returns
    -------
    Path
        The file in the folder, which gets its name when it is whole.

    Raises
    ------
    InputError
        When no mirror gives it, with the reason of each.
    WorkspaceError
        When the disk refuses, or is too small.
    """
    # Loaded by those who download alone.
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    reasons = []
    for url in remote.urls:
        try:
            with disk_errors(folder):
                pooch.retrieve(
                    url, remote.checksum, fname=remote.name, path=folder, downloader=partial(_download, remote, folder)
                )
        except _RefusedError as error:
            reasons.append(f"{url}: {error}")
        except ValueError as error:
            # pooch has discarded it; "expected ... but got ..." is the part that says something.
            told = str(error).partition(". Deleted")[0].rpartition("known hash: ")[2]
            reasons.append(f"{url}: another file than the one that is known: {told}")
        else:
            return folder / remote.name
    raise InputError(
        "cannot be downloaded",
        where=remote.name,
        found="; ".join(reasons),
        fix="check the network and the proxy (HTTPS_PROXY), and repeat the command, which resumes",
    )


def compute_checksum(path: Path, like: str | None = None) -> str:
    """Return the checksum of a file, of the kind of another one; sha256 where there is none."""
    import pooch

    kind = like.partition(":")[0] if like else "sha256"
    with disk_errors(path):
        return f"{kind}:{pooch.file_hash(str(path), alg=kind)}"


def _download(remote: Remote, folder: Path, url: str, output: Any, _pooch: Any) -> None:
    """Put the file behind one address into `output`; what pooch calls a downloader."""
    import requests
    from urllib3.exceptions import HTTPError

    part, breaks = folder / f"{remote.name}.part", 0
    while breaks < _MOST_BREAKS:
        before = _size(part)
        began = False
        try:
            with _open(remote, url, part) as response:
                began = True
                _receive(remote, url, response, part)
            part.replace(output)
            (folder / f"{part.name}.json").unlink(missing_ok=True)
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            if not began and not _was_dropped(error):
                raise _RefusedError(_explain(error)) from None
            breaks = breaks + 1 if _size(part) - before < _ENOUGH else 0
            time.sleep(PAUSE_SECONDS * breaks)
        except requests.RequestException as error:
            raise _RefusedError(_explain(error)) from None
        else:
            return
    raise _RefusedError(f"it broke off {_MOST_BREAKS} times, at {_size(part)} bytes")


def _open(remote: Remote, url: str, part: Path) -> Response:
    """Ask for the file, or for the rest of it where the beginning is here and surely belongs to it."""
    import requests

    have, note = _size(part), _read_note(part)
    validator = note.get("validator") if note.get("url") == url else None
    headers = {"Accept-Encoding": "identity", "User-Agent": f"segem/{segem.__version__}"}
    # With a checksum, a rest that does not fit is noticed in the end; without one, the server has to say that the file
    # is still the same.
    if have and (remote.checksum or validator):
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    steps = [step.url for step in (*response.history, response)]
    if url.startswith("https:") and not all(step.startswith("https:") for step in steps):
        raise _RefusedError("it leads to an address without encryption")
    return response


def _receive(remote: Remote, url: str, response: Response, part: Path) -> None:
    """Write what a server sends behind what is here, or in place of it."""
    have, total = _size(part), _total(response)
    if response.status_code == 416 and total == have:
        return
    if response.status_code == 416:
        part.unlink(missing_ok=True)
        raise _RefusedError("its length has changed since the download began")
    if response.status_code not in (200, 206):
        raise _RefusedError(f"HTTP {response.status_code} {response.reason}")
    if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink(missing_ok=True)
        raise _RefusedError("it sends another part than it was asked for")
    done = have if response.status_code == 206 else 0
    if total is not None:
        require_room(part.parent, total - done)
    _write_note(part, url, response)
    with (
        track(f"download {remote.name}", total, "byte", done=done) as advance,
        part.open("ab" if done else "wb") as file,
    ):
        # What has come is kept at once: of a piece that is waited for to be whole, nothing would be left after a break.
        while piece := response.raw.read1(_PIECE):
            file.write(piece)
            done += len(piece)
            advance(len(piece), f"{done / 1e6:.0f} MB")


def _total(response: Response) -> int | None:
    """Return how long the whole file is; None where the server does not say."""
    ranged = response.headers.get("Content-Range", "").rpartition("/")[2]
    plain = "" if "Content-Encoding" in response.headers else response.headers.get("Content-Length", "")
    said = plain if response.status_code == 200 else ranged
    return int(said) if said.isascii() and said.isdecimal() else None


def _read_note(part: Path) -> dict[str, Any]:
    """Return where the beginning of a file is from, and how its server tells versions apart."""
    try:
        note = json.loads(part.with_name(f"{part.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(part: Path, url: str, response: Response) -> None:
    tag = response.headers.get("ETag", "")
    # A weak tag says that two files are alike, not that their bytes are.
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    part.with_name(f"{part.name}.json").write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _was_dropped(error: Exception) -> bool:
    """Return whether a server that was reached let go of the connection before it answered."""
    import requests
    from urllib3.exceptions import ProtocolError

    return isinstance(error, requests.ConnectionError) and any(isinstance(one, ProtocolError) for one in error.args)


def _explain(error: Exception) -> str:
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not valid"
    if isinstance(error, requests.Timeout):
        return "it does not answer"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy gives no connection"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if "SOCKS" in str(error):
        return "a SOCKS proxy needs a package that is missing (pip install pysocks)"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "it leads to an address that is neither http nor https"
    return str(error)
