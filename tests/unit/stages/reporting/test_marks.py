"""What readers mark, and whether it is of these results."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segem.errors import InputError, WorkspaceError
from segem.io.results import digest_results
from segem.io.run import load_run
from segem.stages.reporting.marks import import_marks, read_marks
from tests.fabricate import add_baseline, add_model, add_volume, new_workspace

RUN = "r"
IMAGE = np.zeros((3, 16, 16), np.uint8)


@pytest.fixture
def workspace(tmp_path):
    space = new_workspace(tmp_path / "w")
    add_volume(space, "fly", IMAGE + 100)
    add_baseline(space, RUN, "fly", IMAGE)
    return space


@pytest.fixture
def save(workspace, tmp_path):
    """Return a function that writes a file as the page of the report saves it."""

    def write(*marks, **changed):
        values = {"schema": 1, "run": RUN, "digest": digest_results(load_run(workspace, RUN)), "marks": list(marks)}
        path = tmp_path / "marks.json"
        path.write_text(json.dumps(values | changed))
        return path

    return write


def mark(section, value="bad", **more):
    return {"volume": "fly", "section": section, "mark": value, "note": "", **more}


def test_marks_of_two_readers_are_kept_and_the_later_one_counts(workspace, save):
    import_marks(save(mark(0), mark(1)), RUN, workspace)
    found = import_marks(save(mark(1, "good", note="looked again"), mark(2, None, note="fold")), RUN, workspace)
    assert [(one.section, one.mark, one.note) for one in found.marks] == [
        (0, "bad", ""), (1, "good", "looked again"), (2, None, "fold"),
    ]  # fmt: skip
    assert read_marks(RUN, workspace, found.digest) == found


def test_marks_of_earlier_results_are_not_shown(workspace, save):
    found = import_marks(save(mark(0)), RUN, workspace)
    add_model(workspace, RUN, "fly", IMAGE)
    digest = digest_results(load_run(workspace, RUN))
    assert digest != found.digest
    assert read_marks(RUN, workspace, digest) is None
    assert [one.section for one in import_marks(save(mark(2)), RUN, workspace).marks] == [2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": "other"}, "of another run"),
        ({"digest": "0" * 64}, "results of the run have changed"),
        ({"marks": [mark(3)]}, "a section that the volume does not have"),
        ({"marks": [mark(0, volume="worm")]}, "a volume that the run does not have"),
        ({"marks": [mark(0, "awful")]}, "not a file of marks"),
        ({"marks": [mark(0, volume="../../etc")]}, "not a file of marks"),
        ({"schema": 2}, "not a file of marks"),
    ],
)
def test_what_is_not_of_this_run_is_refused_and_changes_nothing(workspace, save, change, said):
    kept = import_marks(save(mark(1)), RUN, workspace)
    with pytest.raises(InputError, match=said):
        import_marks(save(mark(0), **change), RUN, workspace)
    assert read_marks(RUN, workspace, kept.digest) == kept


def test_a_file_that_is_none_is_refused(workspace, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match="not a file of marks"):
        import_marks(path, RUN, workspace)
    with pytest.raises(WorkspaceError):
        import_marks(tmp_path / "nowhere.json", RUN, workspace)
