"""Progress is shown to people, and said in lines to log files."""

from __future__ import annotations

import logging

import pytest

from segem import progress
from segem.progress import shown, track, warnings_told


def test_a_log_file_gets_lines_with_share_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with shown(), track("ingest isbi", 4, "section") as advance:
        advance(1, "loss 0.5")
    line = capsys.readouterr().err
    assert line.startswith("ingest isbi: 25%, ")
    assert "section/s" in line
    assert line.endswith(" left, loss 0.5\n")


def test_nothing_is_said_when_not_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with track("quiet", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_a_warning_is_printed_once_however_often_it_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("segem.stages.anything")
    root, beside = logging.getLogger(), logging.StreamHandler()
    root.addHandler(beside)  # as Prefect adds one
    try:
        with warnings_told():
            for volume in ("fly", "fly", "mouse"):
                log.warning("%s: look at it", volume)
                log.info("%s: computed", volume)
    finally:
        root.removeHandler(beside)
    assert capsys.readouterr().err == "warning: fly: look at it\nwarning: mouse: look at it\n"
