"""New stacks of an inbox: each look takes what is new, and finds its membranes."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.campaign import campaign
from flows.notices import told_when_red
from flows.pages import show_table
from flows.steps import step
from segem.config import ExecutionConfig
from segem.config.service import InboxConfig
from segem.errors import IncompleteError, SegemError
from segem.io.workspace import Workspace, open_workspace
from segem.records.inbox import FoundStack
from segem.stages.campaign import describe_failure
from segem.stages.inbox import Batch, Look, close_batch, look_into
from segem.stages.reporting.read import read_report, version_of_report

DEFAULT_EXECUTION = ExecutionConfig()


@step("look", "look into {config.inbox}")
def look_step(config: InboxConfig, manifest: Path, workspace: Path, data_root: Path | None) -> Look:
    """Find what is new and has stopped growing."""
    return look_into(config, manifest, open_workspace(workspace), data_root)


@flow(name="campaign-on-new-data", flow_run_name="new data in {config.inbox}")
def campaign_on_new_data(
    manifest: Path,
    config: InboxConfig,
    workspace: Path = Path("workspace"),
    data_root: Path | None = None,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    restarts: int = 3,  # noqa: ARG001 - for the reaper of the service
) -> State[list[str]]:
    """Look into an inbox once, and find the membranes of every stack that is new and has stopped growing.

    Each stack is taken once, by its content. One that fails does not stop the others; the flow fails in the end and
    names it, and the next look passes it over. Without anything new, the flow ends as NothingNew.

    Parameters
    ----------
    manifest : Path
        The YAML file that says how new stacks are segmented: its model, settings and rules, and the voxel size of its
        first volume.
    config : InboxConfig
        The folder, and how long a stack must not have changed.
    workspace : Path
        Root of the workspace.
    data_root : Path, optional
        Folder that relative paths of the manifest count from; the manifest's own when absent.
    execution : ExecutionConfig
        Device, engine, workers, memory.
    restarts : int
        How often the service starts the flow again when its process died; finished blocks are kept.

    Raises
    ------
    IncompleteError
        When a stack failed; the message names each one with its reason.
    SegemError
        When nothing could start.
    """
    space = open_workspace(workspace)
    # What fails of a batch tells itself, as every campaign does.
    with told_when_red(space.root, f"the look into {config.inbox}", of_run=False):
        look = look_step(config, manifest, space.root, data_root)
    failed: dict[str, str] = {}
    held_up: dict[str, str] = {}
    for batch in look.batches:
        try:
            failed |= _segment(batch, config, space, execution)
        # As where the model of an earlier batch is gone: those that came later have nothing to do with it.
        except SegemError as error:
            held_up |= {one.name: describe_failure(error) for one in batch.stacks}
    rows = [
        {"stack": one.name, "run": one.run, "what": (failed | held_up).get(one.name, "done")} for one in _stacks(look)
    ]
    rows += [{"stack": name, "run": "-", "what": remark} for name, remark in look.remarks.items()]
    if rows:
        show_table("new-stacks", rows, f"Stacks that are new in {config.inbox}")
    if failed or held_up:
        ways = [
            *(["drop a whole copy of each that failed, since these very files are not tried again"] if failed else []),
            *([f"mend what holds up {', '.join(held_up)}: they are tried again at the next look"] if held_up else []),
        ]
        raise IncompleteError(
            f"{len(failed | held_up)} of {len(_stacks(look))} new stacks failed",
            where=config.inbox,
            found="; ".join(f"{name} ({reason})" for name, reason in (failed | held_up).items()),
            fix="; ".join(ways),
        )
    names = [one.name for one in _stacks(look)]
    if not names:
        left = "".join(f"; {name}: {remark}" for name, remark in look.remarks.items())
        return Completed(name="NothingNew", message=f"nothing new in {config.inbox}{left}", data=names)
    return Completed(message=f"new: {', '.join(names)}", data=names)


def _stacks(look: Look) -> list[FoundStack]:
    return [one for batch in look.batches for one in batch.stacks]


def _segment(batch: Batch, config: InboxConfig, space: Workspace, execution: ExecutionConfig) -> dict[str, str]:
    """Run the campaign of a batch as part of this flow run, and return why stacks of it failed."""
    before = version_of_report(space.report(batch.run))
    try:
        campaign.fn(batch.manifest, run=batch.run, workspace=space.root, execution=execution)
        failed = {}
    except IncompleteError:
        # The report of an earlier attempt, which was killed before the batch was closed, does not say what failed now.
        if version_of_report(space.report(batch.run)) == before:
            raise
        volumes = read_report(space.report(batch.run)).volumes
        failed = {one.name: one.reason or one.state for one in volumes if one.state == "failed"}
    close_batch(batch, failed, config, space)
    return {one.name: failed[one.volume] for one in batch.stacks if one.volume in failed}
