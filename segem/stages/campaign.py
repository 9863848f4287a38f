"""What a campaign needs besides its steps: a workspace, a model, a name of its own, and a note of what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from segem.config import Manifest, check_name, load_manifest
from segem.errors import SegemError, WorkspaceError
from segem.io.run import campaign_lock, enter_volumes, update_run
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model
from segem.stages.naming import default_run


@dataclass(frozen=True)
class Campaign:
    """A campaign that can start: its manifest is sound, its model is there, its workspace can be written."""

    run: str
    source: Path
    """The YAML file that the manifest was read from."""
    data_root: Path | None
    manifest: Manifest
    workspace: Workspace

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of the manifest's volumes."""
        return tuple(volume.name for volume in self.manifest.volumes)


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
    name = check_name(run, "run") if run else default_run(loaded.name, loaded)
    opened = open_workspace(workspace)
    find_model(loaded.segment_config().model, opened)
    return Campaign(name, manifest, data_root, loaded, opened)


@contextmanager
def held(job: Campaign) -> Iterator[None]:
    """Keep every other campaign away from this run while the body runs.

    Raises
    ------
    WorkspaceError
        When another process works on the run, or the disk refuses.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(campaign_lock(job.workspace, job.run))
        except WorkspaceError as error:
            raise WorkspaceError(
                f"run {job.run} cannot start: {error.what}", where=error.where, found=error.found, fix=error.fix
            ) from error
        yield


def enter(job: Campaign) -> None:
    """Write every volume into the run's record before the first one starts, so that one never reached is missed.

    Raises
    ------
    WorkspaceError
        When the record cannot be written.
    """
    enter_volumes(job.workspace, job.run, job.volumes)


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
