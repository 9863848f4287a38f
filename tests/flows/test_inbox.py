"""A look into an inbox, as a flow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.inbox import campaign_on_new_data
from segem.config.service import InboxConfig
from segem.errors import IncompleteError
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
