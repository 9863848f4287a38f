"""A look into an inbox, as a flow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.campaign import campaign
from flows.inbox import campaign_on_new_data
from segem.config.service import InboxConfig
from segem.errors import IncompleteError, WorkspaceError
from segem.io.workspace import Workspace
from segem.stages.inbox import look_into

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_stacks_that_cannot_be_begun_hold_up_no_others(
    manifest_of: Callable[..., Path], tiny_stacks: Path, tiny_model: Path, tmp_path: Path
) -> None:
    inbox, model, workspace = tmp_path / "inbox", tmp_path / "model", tmp_path / "w"
    inbox.mkdir()
    config = InboxConfig(inbox=inbox, settle_seconds=0)
    shutil.copytree(tiny_model, model)
    shutil.copy(tiny_stacks / "alpha" / "raw.tif", inbox / "first.tif")
    look_into(config, manifest_of("alpha", model=model), Workspace(workspace))
    shutil.rmtree(model)
    shutil.copy(tiny_stacks / "gamma" / "raw.tif", inbox / "second.tif")

    def look() -> object:
        state = campaign_on_new_data(manifest_of("alpha"), config, workspace, return_state=True)
        return state.result(raise_on_failure=False)

    error = look()
    assert isinstance(error, IncompleteError)
    assert "1 of 2 new stacks failed; found first.tif (" in str(error)
    assert str(model) in str(error)
    assert "tried again at the next look" in str(error)
    # What was taken with a model that is gone is tried again, and done when it is back.
    shutil.copytree(tiny_model, model)
    assert look() == ["first.tif"]
    assert look() == []


def test_a_report_of_an_earlier_attempt_closes_no_batch(
    manifest_of: Callable[..., Path], tiny_stacks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, workspace = tmp_path / "inbox", tmp_path / "w"
    inbox.mkdir()
    config, template = InboxConfig(inbox=inbox, settle_seconds=0), manifest_of("alpha")
    shutil.copy(tiny_stacks / "alpha" / "raw.tif", inbox / "one.tif")
    (batch,) = look_into(config, template, Workspace(workspace)).batches
    # Killed after its report, before the batch was closed.
    campaign(batch.manifest, run=batch.run, workspace=workspace)
    (inbox / "one.tif").unlink()

    def refuse(*_: object) -> None:
        raise WorkspaceError("the disk is full")

    with monkeypatch.context() as full:
        full.setattr("flows.campaign.report_step", refuse)
        state = campaign_on_new_data(template, config, workspace, return_state=True)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, IncompleteError)
    assert "mend what holds up one.tif" in str(error)
    shutil.copy(tiny_stacks / "alpha" / "raw.tif", inbox / "one.tif")
    assert campaign_on_new_data(template, config, workspace) == ["one.tif"]


def test_what_is_left_in_an_inbox_is_said(manifest_of: Callable[..., Path], tiny_stacks: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    shutil.copy(tiny_stacks / "alpha" / "raw.tif", os.fsdecode(os.fsencode(inbox) + b"/Pr\xe4parat.tif"))
    config = InboxConfig(inbox=inbox, settle_seconds=0)
    state = campaign_on_new_data(manifest_of("alpha"), config, tmp_path / "w", return_state=True)
    assert state.name == "NothingNew"
    assert (
        state.message
        == f"nothing new in {inbox}; Pr\\udce4parat.tif: its name is not UTF-8; rename it, and it is taken"
    )
