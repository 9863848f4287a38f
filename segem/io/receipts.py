"""Receipts: what the tasks of an array job hand in of their blocks, since the coordinator alone writes the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from segem.errors import WorkspaceError
from segem.geometry import ZYX
from segem.io.files import disk_errors, write_text
from segem.io.ledger import LedgerRow
from segem.io.replacing import refuse_others
from segem.io.run import StepRequest
from segem.io.workspace import Workspace
from segem.records.receipt import ArrayRequest, Receipt

_REQUEST = "request.json"


@dataclass(frozen=True)
class Receipts:
    """The folder in which the tasks of an array hand in their blocks of one volume.

    Each receipt is a file that appears whole, under the index of its block; tasks share nothing else, so they need no
    locks between hosts and no ports.
    """

    folder: Path

    def request(self) -> ArrayRequest | None:
        """Return what the tasks compute; None where none has begun.

        Raises
        ------
        WorkspaceError
            When it is damaged.
        """
        file = self.folder / _REQUEST
        with disk_errors(file):
            if not file.is_file():
                return None
            text = file.read_text(encoding="utf-8")
        try:
            return ArrayRequest.model_validate_json(text)
        except ValidationError as error:
            raise WorkspaceError(
                "what the tasks of an array compute cannot be read",
                where=file,
                found=error.errors()[0]["msg"],
                fix="remove its folder and start the array again; blocks that were collected are kept",
            ) from None

    def begin(self, request: ArrayRequest) -> None:
        """Note what a task computes, and raise where others compute something else.

        Raises
        ------
        ConfigError
            When the tasks before this one were asked for something else.
        """
        held = self.request()
        if held is not None:
            self._require_same(held, request)
        # Only the number of tasks may differ: those that are missing may be divided anew.
        if held != request:
            with disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / _REQUEST, request.model_dump_json(indent=2) + "\n")

    def require(self, request: ArrayRequest) -> None:
        """Raise unless tasks may still hand in what they compute: the run may have been replaced meanwhile.

        Raises
        ------
        ConfigError, WorkspaceError
            When something else is computed by now.
        """
        held = self.request()
        if held is None:
            raise WorkspaceError(
                "what this task computes is no longer asked for",
                where=self.folder,
                fix="start the array again if it is",
            )
        self._require_same(held, request)

    def record(self, rows: Mapping[ZYX, LedgerRow]) -> None:
        """Hand in finished blocks; their voxels must be on disk by now."""
        for index, row in rows.items():
            file = self._file(index)
            with disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            receipt = Receipt(identity=row.identity, digest=row.digest, value=row.value.hex())
            write_text(file, receipt.model_dump_json())

    def row(self, index: ZYX) -> LedgerRow | None:
        """Return what was handed in of a block; None where nothing was, or it cannot be read."""
        # A receipt that a power cut has damaged is worth no more than none: the block is computed again.
        with suppress(FileNotFoundError, ValidationError, ValueError):
            receipt = Receipt.model_validate_json(self._file(index).read_text(encoding="utf-8"))
            return LedgerRow(receipt.identity, receipt.digest, bytes.fromhex(receipt.value))
        return None

    def clear(self) -> None:
        """Remove the receipts, all of which are in the ledger; what the tasks have computed stays noted."""
        for folder in self._layers():
            shutil.rmtree(folder, ignore_errors=True)

    def drop(self) -> None:
        """Remove all: tasks that still compute stop before their next block."""
        with disk_errors(self.folder):
            (self.folder / _REQUEST).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _layers(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if path.is_dir())

    def _file(self, index: ZYX) -> Path:
        z, y, x = index
        # A folder for each layer of blocks: a million files in one would be slow on many disks.
        return self.folder / str(z) / f"{y}.{x}.json"

    def _require_same(self, held: ArrayRequest, asked: ArrayRequest) -> None:
        refuse_others(
            held.model_dump(mode="json", exclude={"shards"}),
            asked.model_dump(mode="json", exclude={"shards"}),
            what="the tasks of an array compute something else here",
            where=self.folder,
            fix="give every task the same options; for others, give another name with --run",
        )


def receipts_of(workspace: Workspace, run: str, volume: str) -> Receipts:
    """Return the receipts of a volume of a run, whether there are any or not."""
    return Receipts(workspace.receipts(run) / f"{volume}")


def volumes_with_receipts(workspace: Workspace, run: str) -> list[str]:
    """Return the volumes of a run that tasks of an array work on or have worked on, sorted."""
    folder = workspace.receipts(run)
    with disk_errors(folder):
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def require_no_other_array(workspace: Workspace, request: StepRequest) -> None:
    """Raise if the tasks of an array compute the same step of a volume in another way.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    held = receipts_of(workspace, request.run, request.volume).request()
    if held is None or held.step != request.step or request.model is None:
        return
    refuse_others(
        {**held.config, "model": held.model.digest[:12]},
        {**request.config.model_dump(mode="json"), "model": request.model.digest[:12]},
        what="the tasks of an array compute this in another way",
        where=f"{request.run}/{request.volume}",
        fix="give another name with --run, or cancel the array and give --replace to lose what it has made",
    )
