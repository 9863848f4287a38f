"""The version in use, through every way a decision can end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from segem.config import GateConfig
from segem.errors import ModelError
from segem.io.versions import CURRENT, PROMOTION, decide, promoted_version, read_promotion, standing, version_in_use
from segem.records.promotion import Promotion

REPLACE = Path.replace


def versions(home: Path) -> list[Path]:
    found = [home / name for name in ("3", "2", "1")]
    for folder in found:
        folder.mkdir(parents=True, exist_ok=True)
    return found


def promotion(version: Path, promoted: bool) -> Promotion:
    return Promotion(
        name=version.parent.name,
        version=version.name,
        digest="d",
        against=None,
        promoted=promoted,
        forced=False,
        reason="" if promoted else "worse",
        judged=(),
        gate=GateConfig(),
        manifest="m",
        who="me",
        when="now",
        segem_version="0",
    )


def test_the_newest_counts_that_was_not_kept_aside(tmp_path: Path) -> None:
    newest, middle, oldest = found = versions(tmp_path / "mine")
    assert version_in_use(found) == newest
    decide(newest, promotion(newest, False))
    assert (version_in_use(found), standing(newest), standing(middle)) == (middle, "kept aside: worse", "")
    for version in (middle, oldest):
        decide(version, promotion(version, False))
    assert version_in_use(found) is None
    assert version_in_use([]) is None


def test_a_promoted_version_counts_whatever_comes_later(tmp_path: Path) -> None:
    _, middle, oldest = found = versions(tmp_path / "mine")
    decide(oldest, promotion(oldest, True))
    assert version_in_use(found) == oldest
    decide(middle, promotion(middle, True))
    assert version_in_use(found) == middle
    assert [standing(version) for version in found] == ["not in use: not promoted", "current", "promoted before"]
    assert read_promotion(middle) == promotion(middle, True)


@pytest.mark.parametrize("name", ["4", "", "../mine/1", "."])
def test_a_version_in_use_that_is_gone_is_never_replaced_silently(tmp_path: Path, name: str) -> None:
    found = versions(tmp_path / "mine")
    (tmp_path / "mine" / CURRENT).write_text(name)
    with pytest.raises(ModelError, match="the version in use is gone"):
        version_in_use(found)


def test_a_damaged_record_is_one_clear_error(tmp_path: Path) -> None:
    found = versions(tmp_path / "mine")
    (found[0] / PROMOTION).write_text('{"format": 1')
    with pytest.raises(ModelError, match="cannot be read"):
        version_in_use(found)


def _killed(version: Path, turn: int, before: bool) -> None:
    seen = 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal seen
        seen += 1
        if before and seen == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        done = REPLACE(self, target)
        if seen == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Path.replace = replace  # type: ignore[method-assign,assignment]
    decide(version, promotion(version, True))


@pytest.mark.parametrize(("turn", "before", "kept"), [(1, True, "1"), (1, False, "1"), (2, True, "1"), (2, False, "3")])
def test_a_kill_leaves_one_version_in_use_and_the_same_decision_goes_through_after_it(
    tmp_path: Path, turn: int, before: bool, kept: str
) -> None:
    newest, _, oldest = found = versions(tmp_path / "mine")
    decide(oldest, promotion(oldest, True))
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(newest, turn, before))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    in_use = version_in_use(found)
    assert in_use is not None
    assert in_use.name == kept
    record = read_promotion(in_use)
    assert record is not None
    assert record.promoted
    decide(newest, promotion(newest, True))
    assert promoted_version(tmp_path / "mine") == newest
