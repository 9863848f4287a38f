"""Where the volumes, runs and models of a project are on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from segem.config import Config, check_name
from segem.io.files import disk_errors

VOLUME_SUFFIX = ".ome.zarr"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds the volumes, runs and models of a project.

    Parameters
    ----------
    root : Path
        The folder; it need not exist before `prepare`.

    Examples
    --------
    >>> Workspace(Path("w")).volume("isbi").as_posix()
    'w/volumes/isbi.ome.zarr'
    """

    root: Path

    @property
    def models(self) -> Path:
        """Folder of the trained models."""
        return self.root / "models"

    def volume(self, name: str) -> Path:
        """Return the path of the ingested volume `name`."""
        return self.root / "volumes" / f"{check_name(name, 'volume')}{VOLUME_SUFFIX}"

    def run(self, run: str) -> Path:
        """Return the folder of a run."""
        return self.root / "runs" / check_name(run, "run")

    def result(self, run: str, volume: str) -> Path:
        """Return the path of the results of a run for one volume."""
        return self.run(run) / f"{check_name(volume, 'volume')}{VOLUME_SUFFIX}"

    def ledger(self, run: str) -> Path:
        """Return the file in which a run records its finished blocks."""
        return self.run(run) / "ledger.sqlite"

    def receipts(self, run: str) -> Path:
        """Return the folder in which the tasks of array jobs hand in their blocks."""
        return self.run(run) / "receipts"

    def report(self, run: str) -> Path:
        """Return the folder of a run's report."""
        return self.run(run) / "report"

    def comparison(self, runs: Sequence[str]) -> Path:
        """Return the folder of the comparison of some runs, the first of which the others are compared with."""
        name = "+".join(check_name(run, "run") for run in runs)
        # Longer names than file systems take are told apart by a digest.
        short = name if len(name) <= 100 else f"{name[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return self.root / "comparisons" / short

    def volumes(self) -> list[str]:
        """Return the names of the ingested volumes, sorted, without unfinished ones."""
        found = self._visible("volumes", "zarr.json")
        return sorted(p.name.removesuffix(VOLUME_SUFFIX) for p in found if p.name.endswith(VOLUME_SUFFIX))

    def runs(self) -> list[str]:
        """Return the names of the runs, sorted."""
        return sorted(path.name for path in self._visible("runs", "run.json"))

    def prepare(self) -> None:
        """Create the folders of the workspace and check that they can be written.

        Raises
        ------
        WorkspaceError
            When they cannot; the message says why.
        """
        for folder in self._folders():
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            check_writable(folder)

    def check(self) -> None:
        """Check that those folders of the workspace that are there can be written, without making any.

        Raises
        ------
        WorkspaceError
            When one cannot; the message says why.
        """
        for folder in self._folders():
            if folder.exists():
                check_writable(folder)

    def _folders(self) -> tuple[Path, ...]:
        return self.root, self.root / "volumes", self.root / "runs", self.models

    def _visible(self, folder: str, marker: str) -> list[Path]:
        with disk_errors(self.root / folder):
            if not (self.root / folder).is_dir():
                return []
            # Hidden ones are unfinished or locks; a folder without its marker was never finished either.
            paths = (self.root / folder).iterdir()
            return [path for path in paths if not path.name.startswith(".") and (path / marker).is_file()]


def check_writable(folder: Path) -> None:
    """Raise where a folder refuses files; it may exist and do so, which is better known before an hour of work.

    Raises
    ------
    WorkspaceError
        When it does; the message says why.
    """
    with disk_errors(folder), tempfile.TemporaryFile(dir=folder):
        pass


def open_workspace(root: Path) -> Workspace:
    """Return the workspace at `root`, ready to be written.

    Raises
    ------
    WorkspaceError
        When its folders cannot be made or written.
    """
    workspace = Workspace(root.absolute())
    workspace.prepare()
    return workspace


_LONGEST = 80  # with the date and the hash below, a name stays within the 100 characters allowed


def default_run(name: str, settings: Config | None = None, day: date | None = None) -> str:
    """Return the default name of a run: the same call on the same day resumes the same run.

    Parameters
    ----------
    name : str
        Name of the volume or the manifest.
    settings : Config, optional
        Further settings that the run depends on; other settings give another name.
    day : date, optional
        Today in UTC when absent.

    Returns
    -------
    str

    Examples
    --------
    >>> default_run("cortex", day=date(2026, 11, 23))
    'cortex-20261123'
    """
    # The day in UTC, so that machines in two time zones resume the same run.
    parts = [name[:_LONGEST], f"{day or datetime.now(UTC).date():%Y%m%d}"]
    return "-".join([*parts, settings.config_hash()[:8]] if settings is not None else parts)
