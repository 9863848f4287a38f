"""The object store that the arrays of a workspace lie in, and the copy of all else that is kept there."""

from __future__ import annotations

import re
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from segem.config import Url
from segem.config.source import read_source
from segem.errors import ConfigError, StorageError, WorkspaceError
from segem.io.files import disk_errors, write_text
from segem.io.objects import ExistsError, Objects
from segem.io.shard_store import METADATA, find_elsewhere
from segem.io.workspace import VOLUME_SUFFIX, Workspace
from segem.records.storage import Claim, StorageRecord

FILE = "storage.json"
_VERSION = re.compile(rf"(\.[0-9a-f]{{8}}{re.escape(VOLUME_SUFFIX)})/.*")
CLAIMS = "claims"


@dataclass(frozen=True)
class Storage:
    """The storage of a workspace.

    Parameters
    ----------
    workspace : Workspace
        All but the arrays.
    objects : Objects
        What lies in the storage.
    claim : int
        Number by which the workspace owns it.
    """

    workspace: Workspace
    objects: Objects
    claim: int

    def choose_place(self, path: Path) -> Url:
        """Return where the shards of a new volume are to lie; the caller holds its lock.

        Parameters
        ----------
        path : Path
            Where the volume will be in the workspace.
        """
        # What a process has left there that was killed before the volume was whole.
        self.sweep(path)
        # A store renames nothing, so every version of a volume has a place of its own. Which one counts is what the
        # volume in the workspace says, and that is replaced in one step.
        version = uuid.uuid4().hex[:8]
        return self._beside(path).within(f"{_name(path)}.{version}{VOLUME_SUFFIX}").url

    def sweep(self, path: Path) -> None:
        """Remove every version of a volume that the one in the workspace does not name; the caller holds its lock.

        Raises
        ------
        StorageError
            When the storage refuses, or belongs to another workspace by now.
        """
        version = re.compile(rf"{re.escape(_name(path))}\.[0-9a-f]{{8}}{re.escape(VOLUME_SUFFIX)}")
        beside, named = self._beside(path), tuple(find_elsewhere(path))
        for folder in list(beside.list_folders()):
            left = beside.within(folder)
            if version.fullmatch(folder) and not any(url.startswith(f"{left.url}/") for url in named):
                self.require()
                left.remove(left.list_keys())

    def remove(self, folder: Path) -> None:
        """Remove what the volumes below a folder of the workspace have in the storage; they are lost.

        Raises
        ------
        StorageError
            When the storage refuses, or belongs to another workspace by now.
        """
        self.require()
        for place in {_VERSION.sub(r"\1", url) for url in find_elsewhere(folder)}:
            below = Objects(Url(place))
            below.remove(below.list_keys())

    def publish(self, path: Path, place: Url) -> None:
        """Put the metadata of a volume beside its shards, so that others can open it there."""
        # Those of the image last, by which it is found.
        for file in sorted(path.rglob(METADATA), key=lambda file: (-len(file.parts), file)):
            with disk_errors(file):
                content = file.read_bytes()
            Objects(place).write(file.relative_to(path).as_posix(), content)

    def require(self) -> None:
        """Raise if another workspace has taken the storage over.

        Raises
        ------
        StorageError
            When it has, or the storage does not answer.
        """
        last = read_claims(self.objects)
        if max(last, default=0) != self.claim:
            raise _taken(self.objects, max(last, default=0))

    def _beside(self, path: Path) -> Objects:
        return self.objects.within(*path.parent.relative_to(self.workspace.root).parts)


def storage_of(workspace: Workspace) -> Storage | None:
    """Return the storage of a workspace; None where its arrays lie in it.

    Raises
    ------
    WorkspaceError
        When what is noted of it cannot be read.
    """
    path = workspace.root / FILE
    with disk_errors(path):
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
    try:
        noted = StorageRecord.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "what is noted of the storage cannot be read",
            where=path,
            found=error.errors()[0]["msg"],
            fix="take the storage up in a new folder: segem storage take-up URL --workspace FOLDER",
        ) from error
    return Storage(workspace, Objects(Url(noted.url)), noted.claim)


def choose_place(workspace: Workspace, path: Path) -> Url | None:
    """Return where the shards of a new volume of a workspace are to lie; None where beside its metadata."""
    storage = storage_of(workspace)
    return None if storage is None else storage.choose_place(path)


def use_storage(workspace: Workspace, url: str) -> Storage:
    """Let the arrays of a workspace that has none yet lie in a storage.

    Parameters
    ----------
    workspace : Workspace
        Made where it is not there.
    url : str
        ``s3://bucket/prefix``, which no other workspace uses.

    Raises
    ------
    ConfigError
        When the workspace has volumes or another storage, another workspace uses this one, or the URL is none of S3.
    StorageError
        When the storage refuses.
    """
    objects = Objects(read_storage_url(url))
    now = storage_of(workspace)
    if now is not None and now.objects == objects:
        now.require()
        return now
    if now is not None or workspace.volumes():
        raise ConfigError(
            "the workspace has arrays already, and they stay where they are",
            where=workspace.root,
            found="its own disk" if now is None else now.objects.url,
            fix="name a new folder by --workspace, and ingest the volumes there",
        )
    try:
        claim = _claim(objects, 1, workspace)
    except ExistsError:
        raise ConfigError(
            "another workspace keeps its arrays there",
            where=objects.url,
            found=_owner(objects, max(read_claims(objects))),
            fix="give a prefix of its own; or, if that machine is lost: segem storage take-up",
        ) from None
    workspace.prepare()
    return note_storage(workspace.root, workspace, objects, claim)


def note_storage(folder: Path, workspace: Workspace, objects: Objects, claim: int) -> Storage:
    """Write into a folder which storage a workspace uses, and return it."""
    record = StorageRecord(url=objects.url, claim=claim)
    write_text(folder / FILE, record.model_dump_json(indent=1) + "\n")
    return Storage(workspace, objects, claim)


def read_storage_url(url: str) -> Url:
    """Return the URL of a storage.

    Raises
    ------
    ConfigError
        When it is none, or holds a secret.

    Examples
    --------
    >>> read_storage_url("s3://lab/segem/")
    's3://lab/segem'
    """
    try:
        read = read_source(url)
    except ValueError as error:
        # Never the value, which may hold a secret.
        raise ConfigError("not the URL of a storage", where="storage", found=error, fix=_FORM) from None
    if not isinstance(read, Url) or not re.fullmatch(r"s3://[a-z0-9.-]{3,}/[\w.!'()*-]+(/[\w.!'()*-]+)*", read):
        raise ConfigError("not the URL of a storage", where="storage", found=read, fix=_FORM)
    return read


_FORM = "give s3://BUCKET/PREFIX, and credentials in the environment or in ~/.aws"


def claim_again(objects: Objects, workspace: Workspace) -> int:
    """Take a storage over from the workspace that uses it, and return the number of the new claim.

    Raises
    ------
    ConfigError
        When another one is doing the same.
    """
    try:
        return _claim(objects, max(read_claims(objects), default=0) + 1, workspace)
    except ExistsError:
        raise ConfigError(
            "another machine has just taken this storage up", where=objects.url, fix="work with one of them"
        ) from None


def read_claims(objects: Objects) -> list[int]:
    """Return the numbers of all claims on a storage."""
    found = (re.fullmatch(r"(\d+)\.json", key) for key in objects.within(CLAIMS).list_keys())
    return [int(one[1]) for one in found if one]


def _claim(objects: Objects, number: int, workspace: Workspace) -> int:
    mine = Claim(
        host=socket.gethostname(),
        workspace=str(workspace.root),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        token=uuid.uuid4().hex,
    )
    content, claims = mine.model_dump_json(indent=1).encode(), objects.within(CLAIMS)
    key = f"{number:06}.json"
    try:
        claims.write(key, content, new=True)
    except ExistsError:
        # A request whose answer was lost is sent again, and then finds what it has written itself.
        if claims.read(key) != content:
            raise
    return number


def _owner(objects: Objects, number: int) -> str:
    with suppress(ValidationError, FileNotFoundError):
        claim = Claim.model_validate_json(objects.within(CLAIMS).read(f"{number:06}.json"))
        return f"{claim.workspace} on {claim.host}, since {claim.since}"
    return "an unknown workspace"


def _taken(objects: Objects, number: int) -> StorageError:
    return StorageError(
        "the storage of this workspace belongs to another one by now",
        where=objects.url,
        found=_owner(objects, number),
        fix="work there; or take it back in a new folder: segem storage take-up URL --workspace FOLDER",
    )


def _name(path: Path) -> str:
    return path.name.removesuffix(VOLUME_SUFFIX)
