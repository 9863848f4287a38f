"""A page that cannot be had for a while ends no run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import pages
from flows.campaign import CampaignOutcome, campaign
from flows.links import RUN_LABEL, VARIABLE

pytestmark = pytest.mark.usefixtures("prefect_server")
NOBODY = "http://127.0.0.1:9/api"


def test_a_label_that_cannot_be_set_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pages, "PATIENCE_S", 0.0)
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))
    # Outside of a flow, whose client knows the server of these tests.
    with caplog.at_level(logging.WARNING, "flows.pages"), temporary_settings({PREFECT_API_URL: NOBODY}):
        pages.label_run("segem.run", "monday")
    assert "lacks 'segem.run', since its server does not answer" in caplog.text


@pytest.mark.parametrize("silent_for", [1, 1000])
def test_a_campaign_goes_on_where_its_name_cannot_be_kept(
    manifest_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_for: int
) -> None:
    asked = 0

    def answer_later(*, sync_client: Literal[True]) -> object:
        nonlocal asked
        asked += 1
        if asked <= silent_for:
            raise httpx.ConnectError("nobody is there")
        return get_client(sync_client=sync_client)

    monkeypatch.setattr(pages, "get_client", answer_later)
    monkeypatch.setattr(pages, "PAUSE_S", 0.0)
    monkeypatch.setattr(pages, "PATIENCE_S", 60.0 if silent_for == 1 else 0.0)
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1/reports")
    state = cast("State[CampaignOutcome]", campaign(manifest_of("alpha"), workspace=tmp_path / "w", return_state=True))
    assert state.is_completed(), state.message
    with get_client(sync_client=True) as client:
        labels = client.read_flow_run(state.state_details.flow_run_id).labels
    assert labels.get(RUN_LABEL) == (state.result().run if silent_for == 1 else None)
