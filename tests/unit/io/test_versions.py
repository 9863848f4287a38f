"""The version in use, through every way a decision can end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from segem.config import GateConfig
from segem.errors import ModelError
from segem.io.versions import (
    CURRENT,
    PROMOTION,
    describe_standing,
    find_promoted,
    find_version_in_use,
    read_promotion,
    record_decision,
)
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
        incumbent=None,
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
    assert find_version_in_use(found) == newest
    record_decision(newest, promotion(newest, False))
    assert (find_version_in_use(found), describe_standing(newest), describe_standing(middle)) == (
        middle,
        "kept aside: worse",
        "",
    )
    for version in (middle, oldest):
        record_decision(version, promotion(version, False))
    assert find_version_in_use(found) is None
    assert find_version_in_use([]) is None


def test_a_promoted_version_counts_whatever_comes_later(tmp_path: Path) -> None:
    _, middle, oldest = found = versions(tmp_path / "mine")
    record_decision(oldest, promotion(oldest, True))
    assert find_version_in_use(found) == oldest
    record_decision(middle, promotion(middle, True))
    assert find_version_in_use(found) == middle
    assert [describe_standing(version) for version in found] == [
        "not in use: not promoted",
        "current",
        "promoted before",
    ]
    assert read_promotion(middle) == promotion(middle, True)


@pytest.mark.parametrize("name", ["4", "", "../mine/1", "."])
def test_a_version_in_use_that_is_gone_is_never_replaced_silently(tmp_path: Path, name: str) -> None:
    found = versions(tmp_path / "mine")
    (tmp_path / "mine" / CURRENT).write_text(name)
    with pytest.raises(ModelError, match="the version in use is gone"):
        find_version_in_use(found)


def test_a_damaged_record_is_one_clear_error(tmp_path: Path) -> None:
    found = versions(tmp_path / "mine")
    (found[0] / PROMOTION).write_text('{"format": 1')
    with pytest.raises(ModelError, match="cannot be read"):
        find_version_in_use(found)


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
    record_decision(version, promotion(version, True))


@pytest.mark.parametrize(("turn", "before", "kept"), [(1, True, "1"), (1, False, "1"), (2, True, "1"), (2, False, "3")])
def test_a_kill_leaves_one_version_in_use_and_the_same_decision_goes_through_after_it(
    tmp_path: Path, turn: int, before: bool, kept: str
) -> None:
    newest, _, oldest = found = versions(tmp_path / "mine")
    record_decision(oldest, promotion(oldest, True))
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(newest, turn, before))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    in_use = find_version_in_use(found)
    assert in_use is not None
    assert in_use.name == kept
    record = read_promotion(in_use)
    assert record is not None
    assert record.promoted
    record_decision(newest, promotion(newest, True))
    assert find_promoted(tmp_path / "mine") == newest
