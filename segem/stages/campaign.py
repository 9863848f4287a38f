"""What a campaign needs besides its steps: a workspace, a model, a name, and a note of each volume that failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from segem.config import Manifest, check_name, load_manifest
from segem.errors import SegemError
from segem.io.run import update_run
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model


@dataclass(frozen=True)
class Campaign:
    """A campaign that can start: its manifest is sound, its model is there, its workspace can be written."""

    run: str
    manifest: Manifest
    workspace: Workspace


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


def open_campaign(manifest: Path, run: str | None, workspace: Path, data_root: Path | None = None) -> Campaign:
    """Check all that would stop every volume alike, before the first one starts.

    Parameters
    ----------
    manifest : Path
        The YAML file.
    run : str or None
        Name of the run; made from the manifest and the date when absent.
    workspace : Path
        Root of the workspace; made when missing.
    data_root : Path, optional
        Folder that relative sources count from; the manifest's own when absent.

    Returns
    -------
    Campaign

    Raises
    ------
    ConfigError
        When the manifest or the name is wrong.
    WorkspaceError
        When the workspace cannot be written.
    ModelError
        When the model is missing or damaged.
    """
    loaded = load_manifest(manifest, data_root)
    name = check_name(run, "run") if run else default_run(loaded, datetime.now(UTC).date())
    opened = open_workspace(workspace)
    find_model(loaded.segment_config().model, opened)
    return Campaign(name, loaded, opened)


def default_run(manifest: Manifest, day: date) -> str:
    """Return the name of a run nobody named; the same manifest on the same day resumes the same run.

    Examples
    --------
    >>> volume = {"name": "a", "source": "a.tif", "voxel_nm": (50, 4, 4)}
    >>> default_run(Manifest(name="fly", volumes=[volume]), date(2026, 11, 23))[:13]
    'fly-20261123-'
    """
    return f"{manifest.name[:80]}-{day:%Y%m%d}-{manifest.config_hash()[:8]}"


def note_failure(volume: str, run: str, reason: str, workspace: Workspace) -> None:
    """Write into the run's record that a volume failed, so that the report can name it.

    Raises
    ------
    WorkspaceError
        When the record cannot be written.
    """
    update_run(workspace, run, volume, failure=reason)


def reason_of(error: Exception) -> str:
    r"""Return why a volume failed, in one line.

    Examples
    --------
    >>> reason_of(ValueError("two\nlines"))
    'ValueError: two lines'
    """
    text = str(error) if isinstance(error, SegemError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
