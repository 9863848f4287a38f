"""Progress is shown to people, and said in lines to log files."""

from __future__ import annotations

import pytest

from segem import progress
from segem.progress import shown, track


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
