"""The log of a review: nothing acknowledged is lost, nothing changes unseen, and replay gives what was painted."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.errors import ConfigError, InputError, WorkspaceError
from segem.io.reviewed import open_log, open_mask, reader_of, replay, require_reviewed_mask, reviewable, verify_review
from segem.io.reviewed_labels import open_reviewed
from segem.io.reviewers import find_reviewer, invite, revoke
from segem.io.reviews import LOG, Appended, Outdated, ReviewLog
from segem.io.volume import Volume
from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import EMPTY, Draft, Head, Place
from segem.review.apart import Checks
from segem.review.session import Review
from segem.stages.reporting.findings import find_review
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import report
from tests.fabricate import add_baseline, add_model, add_pyramids, add_volume, guess, new_workspace, tissue

EDGE = 24
BLANK = np.zeros((EDGE, EDGE), bool)
KILLS = int(os.environ.get("SEGEM_REVIEW_KILLS", "1"))
SAVERS = 4 if KILLS > 1 else 2


def reading(mask):
    return lambda place: mask[place.y : place.y + place.height, place.x : place.x + place.width]


def draft(number, place, flips, **more):
    return Draft(id=f"{number:032x}", kind="correction", place=place, runs=encode_runs(flips), **more)


def place(y=0, x=0, height=EDGE, width=EDGE, z=0):
    return Place(volume="v", z=z, y=y, x=x, height=height, width=width)


WHOLE = place()


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_runs_are_read_back(changed):
    runs = encode_runs(changed)
    assert np.array_equal(decode_runs(runs, changed.shape), changed)
    assert all(length > 0 for length in runs[1:])


@pytest.mark.parametrize("runs", [(0, 7), (3, 3, 3), (2**32 - 1, 2**32 - 1), (-1, 2)])
def test_runs_that_do_not_fit_are_refused(runs):
    with pytest.raises(InputError, match="runs that do not fit"):
        decode_runs(runs, (2, 3))


@st.composite
def edits(draw):
    y, x = draw(st.integers(0, EDGE - 1)), draw(st.integers(0, EDGE - 1))
    height, width = draw(st.integers(1, EDGE - y)), draw(st.integers(1, EDGE - x))
    return place(y, x, height, width, draw(st.integers(0, 1))), draw(arrays(bool, (height, width)))


@given(st.lists(edits(), max_size=8), arrays(bool, (EDGE, EDGE)))
def test_the_mask_is_what_the_edits_make_of_it_in_their_order(tmp_path_factory, made, base):
    expected = {0: base.copy(), 1: base.copy()}
    read = reading(base)
    with ReviewLog(tmp_path_factory.mktemp("log") / LOG) as log:
        for number, (where, flips) in enumerate(made):
            assert isinstance(log.append(draft(number, where, flips), "ana", number, read), Appended)
            expected[where.z][where.y : where.y + where.height, where.x : where.x + where.width] ^= flips
        for z, mask in expected.items():
            assert np.array_equal(log.mask(place(z=z), read), mask)
            replayed = log.replay_section("v", z, read)
            if replayed is not None:
                (y, x), found = replayed
                assert np.array_equal(found, mask[y : y + found.shape[0], x : x + found.shape[1]])
        assert log.verify() == log.head()
        assert log.head().entries == len(made)


@given(st.lists(edits(), min_size=1, max_size=6), st.data())
def test_a_revert_returns_what_nobody_has_touched_since_and_leaves_the_rest(tmp_path_factory, made, data):
    which = data.draw(st.integers(0, len(made) - 1))
    read = reading(BLANK)
    with ReviewLog(tmp_path_factory.mktemp("log") / LOG) as log:
        for number, (where, flips) in enumerate(made):
            log.append(draft(number, where, flips), "ana", number, read)
        where, flips = made[which]
        whole = place(z=where.z)
        now, earlier = log.mask(whole, read), log.mask(whole, read, upto=which)
        own, later = BLANK.copy(), BLANK.copy()
        own[where.y : where.y + where.height, where.x : where.x + where.width] = flips
        for other, changed in made[which + 1 :]:
            if other.z == where.z:
                later[other.y : other.y + other.height, other.x : other.x + other.width] |= changed
        if flips.any():
            log.revert(which + 1, "bo", f"{99:032x}", read)
            assert np.array_equal(log.mask(whole, read), np.where(own & ~later, earlier, now))
        else:
            with pytest.raises(InputError, match="no entry that changed pixels"):
                log.revert(which + 1, "bo", f"{99:032x}", read)


@pytest.fixture
def log(tmp_path):
    with ReviewLog(tmp_path / LOG) as opened:
        yield opened


def dot(y, x):
    flips = BLANK.copy()
    flips[y, x] = True
    return flips


def test_who_did_not_see_a_change_of_the_region_is_told_and_nothing_is_overwritten(log):
    read = reading(BLANK)
    first = log.append(draft(1, WHOLE, dot(3, 3)), "ana", 0, read)
    second = log.append(draft(2, WHOLE, dot(3, 3)), "bo", 0, read)
    assert second == Outdated((first.entry,))
    assert log.mask(WHOLE, read).sum() == 1
    assert isinstance(log.append(draft(3, WHOLE, dot(4, 4)), "bo", 1, read), Appended)


def test_changes_of_other_regions_and_sections_do_not_stand_in_the_way_but_are_told(log):
    wide = np.zeros((EDGE, 1024), bool)
    one, far = np.ones((1, 1), bool), place(0, 600, 1, 1)
    log.append(draft(1, place(0, 0, 1, 1), one), "ana", 0, reading(wide))
    log.append(draft(2, place(0, 0, 1, 1, z=1), one), "ana", 1, reading(wide))
    saved = log.append(draft(3, far, one), "bo", 0, reading(wide))
    assert isinstance(saved, Appended)
    assert [entry.number for entry in saved.others] == [1]


def test_what_is_sent_twice_is_added_once(log):
    read = reading(BLANK)
    sent = draft(7, WHOLE, dot(1, 2), active_seconds=2.5)
    first = log.append(sent, "ana", 0, read)
    again = log.append(sent, "ana", 0, read)
    assert again.entry == first.entry
    assert log.head().entries == 1
    with pytest.raises(InputError, match="another entry has this id"):
        log.append(draft(7, WHOLE, dot(5, 5)), "ana", 1, read)
    with pytest.raises(InputError, match="another entry has this id"):
        log.append(sent, "bo", 1, read)


def test_an_entry_keeps_who_when_and_how_long(log):
    entry = log.append(draft(1, WHOLE, dot(1, 2), active_seconds=2.5), "ana", 0, reading(BLANK)).entry
    (read_back,) = log.entries()
    assert read_back == entry
    assert (entry.author, entry.active_seconds, entry.number, entry.previous) == ("ana", 2.5, 1, EMPTY.digest)
    assert entry.time.endswith("+00:00")


@pytest.mark.parametrize("change", ["UPDATE entries SET author = 'eve'", "DELETE FROM entries"])
def test_the_log_refuses_to_be_changed(log, change):
    log.append(draft(1, WHOLE, dot(1, 2)), "ana", 0, reading(BLANK))
    with sqlite3.connect(log.path) as other, pytest.raises(sqlite3.IntegrityError, match="only added to"):
        other.execute(change)


COLUMNS = ["author", "time", "kind", "volume", "z", "y", "x", "height", "width", "before", "runs", "detail", "id"]


@pytest.mark.parametrize("column", [*COLUMNS, "number", "active_seconds", "previous", "digest"])
def test_a_changed_column_is_found(log, column):
    for number in range(3):
        log.append(draft(number, WHOLE, dot(number, 2), detail={"n": number}), "ana", number, reading(BLANK))
    head = log.verify()
    with sqlite3.connect(log.path) as other:
        other.executescript("DROP TRIGGER never_changed; DROP TRIGGER never_deleted")
        (value,) = other.execute(f"SELECT {column} FROM entries WHERE number = 2").fetchone()
        changed: object
        if isinstance(value, (int, float)):
            changed = value + 5
        elif isinstance(value, bytes):
            changed = value[:-1] + (b"\1" if value[-1:] != b"\1" else b"\2")
        else:
            changed = value[:-1] + ("7" if value[-1] != "7" else "8")
        other.execute(f"UPDATE entries SET {column} = ? WHERE number = 2", [changed])
    with pytest.raises(WorkspaceError, match="changed after it was written"):
        log.verify()
    with pytest.raises(WorkspaceError, match="changed after it was written"):
        log.verify(head)


@pytest.mark.parametrize("change", ["DELETE FROM entries WHERE number = 2", "DELETE FROM entries WHERE number = 3"])
def test_a_lost_entry_is_found(log, change):
    for number in range(3):
        log.append(draft(number, WHOLE, dot(number, 2)), "ana", number, reading(BLANK))
    head = log.verify()
    with sqlite3.connect(log.path) as other:
        other.executescript(f"DROP TRIGGER never_deleted; {change}")
    with pytest.raises(WorkspaceError, match="changed after it was written"):
        log.verify(head)


def test_a_log_written_anew_is_found_by_the_head_that_was_kept(log, tmp_path):
    log.append(draft(1, WHOLE, dot(1, 2)), "ana", 0, reading(BLANK))
    kept = log.verify()
    with ReviewLog(tmp_path / "new" / LOG) as forged:
        forged.append(draft(1, WHOLE, dot(1, 3)), "ana", 0, reading(BLANK))
        forged.append(draft(2, WHOLE, dot(1, 4)), "ana", 1, reading(BLANK))
        forged.verify()
        with pytest.raises(WorkspaceError, match="not the log that the report"):
            forged.verify(kept)
    log.append(draft(2, WHOLE, dot(1, 4)), "ana", 1, reading(BLANK))
    assert log.verify(kept).entries == 2


def test_a_token_holds_until_it_is_revoked(log):
    ana, bo = invite(log, "Ana Müller", "me"), invite(log, "Bo", "me")
    assert (find_reviewer(log, ana), find_reviewer(log, bo), find_reviewer(log, "")) == ("Ana Müller", "Bo", None)
    assert len(ana) >= 43, "256 bits"
    newer = invite(log, "Bo", "me")
    assert (find_reviewer(log, bo), find_reviewer(log, newer)) == (None, "Bo")
    revoke(log, "Ana Müller", "me")
    assert find_reviewer(log, ana) is None
    with pytest.raises(ConfigError, match="no such reviewer"):
        revoke(log, "Ana Müller", "me")
    assert ana.encode() not in log.path.read_bytes()
    log.verify()


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 81, "a\x00"])
def test_a_name_that_could_not_stand_in_a_log_is_refused(log, name):
    with pytest.raises(ConfigError, match="not a name of a reviewer"):
        invite(log, name, "me")


def test_another_file_is_not_taken_for_a_log(tmp_path):
    with sqlite3.connect(tmp_path / LOG) as other:
        other.execute("CREATE TABLE t (a)")
    with pytest.raises(WorkspaceError, match="not a log of reviews"):
        ReviewLog(tmp_path / LOG)


def test_many_who_edit_one_region_at_once_overwrite_nothing_unseen(tmp_path):
    clients, edits_each = 8, int(os.environ.get("SEGEM_REVIEW_EDITS", "12"))
    read, told = reading(BLANK), [0] * clients

    def work(client):
        rng = np.random.default_rng(client)
        with ReviewLog(tmp_path / LOG) as log:
            for number in range(edits_each):
                seen, flips = log.head().entries, rng.random((EDGE, EDGE)) < 0.1
                while isinstance(
                    saved := log.append(draft(client * 1000 + number, WHOLE, flips), f"client {client}", seen, read),
                    Outdated,
                ):
                    # Who is told looks at what the others did before trying again.
                    seen, told[client] = saved.others[-1].number, told[client] + 1
                # As below: who never lets go keeps others waiting, on a busy machine for more than two minutes.
                time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ReviewLog(tmp_path / LOG) as log:
        assert log.verify().entries == clients * edits_each
        made = list(log.entries())
        expected = np.bitwise_xor.reduce([decode_runs(entry.runs, (EDGE, EDGE)) for entry in made])
        assert np.array_equal(log.mask(WHOLE, read), expected)
        log.replay_section("v", 0, read)
    assert sum(told) > 0


SAVER = """
import sys
import time
import numpy as np
from pathlib import Path
from segem.io.reviews import Appended, ReviewLog
from segem.records.review import Draft, Place
client, number, blank = int(sys.argv[2]), 0, np.zeros((24, 24), bool)
whole = Place(volume="v", z=0, y=0, x=0, height=24, width=24)
with ReviewLog(Path(sys.argv[1])) as log:
    while True:
        number += 1
        id = f"{client * 10**6 + number:032x}"
        sent = Draft(id=id, kind="correction", place=whole, runs=(number % 500, 1 + client % 70))
        while not isinstance(log.append(sent, f"client {client}", log.head().entries, lambda place: blank), Appended):
            pass
        print(sent.id, flush=True)
        # SQLite's lock is not fair: a loop that never lets go would keep the others waiting for its 30 seconds.
        time.sleep(0.005)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / LOG
    acknowledged: list[str] = []
    for kill in range(KILLS):
        ReviewLog(path).__exit__()
        savers = [
            subprocess.Popen(
                [sys.executable, "-c", SAVER, path, str(kill * 4 + client)], stdout=subprocess.PIPE, text=True
            )
            for client in range(SAVERS)
        ]
        for saver in savers:
            acknowledged += [saver.stdout.readline().strip() for _ in range(3 + kill % 5)]
        for saver in savers:
            saver.kill()
            # A last line may be cut in the middle.
            acknowledged += [line for line in saver.stdout.read().split("\n")[:-1] if line]
            saver.wait()
            saver.stdout.close()
    with ReviewLog(path) as log:
        log.verify()
        assert set(acknowledged) <= {entry.id for entry in log.entries()}
        log.replay_section("v", 0, reading(BLANK))
    assert len(acknowledged) >= 3 * SAVERS * KILLS


def test_who_is_invited_is_found_without_reading_every_stroke_in_older_logs_too(tmp_path):
    path = tmp_path / LOG
    with ReviewLog(path) as log:
        log.note("invite", {"name": "Ana", "token_sha256": "ab"}, "me")
    with sqlite3.connect(path) as db:
        db.execute("DROP INDEX by_kind")
    with ReviewLog(path) as log:
        assert log.verify().entries == 1
    with sqlite3.connect(path) as db:
        (plan,) = db.execute("EXPLAIN QUERY PLAN SELECT * FROM entries WHERE kind IN ('invite', 'revoke')").fetchall()
    assert "by_kind" in plan[-1]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("reviewed") / "w")
    image, truth = tissue((3, 300, 280))
    add_volume(space, "v", image)
    add_model(space, "r", "v", guess(truth))
    add_volume(space, "late", image)
    add_model(space, "r", "late", None, state="failed", reason="no")
    return space


def test_the_layer_is_replayed_from_the_log_with_its_pyramid(workspace):
    assert reviewable(workspace, "r") == ["v"]
    mask = open_mask(workspace, "r", "v")
    read = reader_of(mask)
    expected = np.asarray(mask[:])
    with open_log(workspace, "r") as log:
        first = log.head().entries
        for number, (where, edge) in enumerate([((0, 250, 3), 30), ((2, 0, 0), 250), ((0, 255, 20), 25)]):
            flips = np.random.default_rng(number).random((edge, edge)) < 0.5
            z, y, x = where
            log.append(draft(number, place(y, x, edge, edge, z), flips), "ana", first + number, read)
            expected[z, y : y + edge, x : x + edge] ^= flips
        for _ in range(2):
            assert np.array_equal(replay(workspace, "r", "v", log)[:], expected)
        log.append(draft(9, place(0, 0, 1, 1, 1), np.ones((1, 1), bool)), "ana", log.head().entries, read)
        expected[1, 0, 0] ^= 1
        assert np.array_equal(replay(workspace, "r", "v", log)[:], expected)
    result = Volume.open(workspace.result("r", "v"))
    coarse = np.asarray(result.levels("reviewed")[1][:])
    assert np.array_equal(coarse, expected.reshape(3, 150, 2, 140, 2).max((2, 4)))
    assert np.array_equal(result.label("membrane")[:], mask[:]), "what was reviewed stays as it was"


def test_a_run_without_a_model_is_reviewed_from_its_baseline(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((1, 64, 64))
    add_volume(space, "v", image)
    add_baseline(space, "r", "v", truth)
    assert reviewable(space, "r") == ["v"]
    read = reader_of(open_mask(space, "r", "v"))
    with open_log(space, "r") as log:
        log.append(draft(1, place(), dot(3, 4)), "ana", 0, read)
        expected = truth[0].copy()
        expected[3, 4] ^= 1
        assert np.array_equal(replay(space, "r", "v", log)[0], expected)
    opened = Review(space, "r")
    assert opened.regions("v")[0].reason.startswith("in order")
    assert opened.questions("v", 0) == {}
    assert np.array_equal(opened.tile("me", "v", 0, 0, (0, 0))[1], expected == 1)
    opened.close()


def test_a_full_disk_is_told_as_one_and_nothing_is_lost(tmp_path):
    with ReviewLog(tmp_path / LOG) as log:
        (pages,) = log._db.execute("PRAGMA page_count").fetchone()
        log._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(WorkspaceError, match="database or disk is full"):  # noqa: PT012 - how many fit is unknown
            for made in range(1000):
                log.append(draft(made, WHOLE, dot(3, 4)), "ana", made, reading(BLANK))
        assert log.verify().entries == made
        log._db.execute(f"PRAGMA max_page_count = {2**30}")
        assert isinstance(log.append(draft(made, WHOLE, dot(3, 4)), "ana", made, reading(BLANK)), Appended)


def test_an_accepted_region_says_nothing_of_a_mask_that_was_computed_anew(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((1, 64, 64))
    add_volume(space, "v", image)
    add_model(space, "r", "v", guess(truth))
    accepted = Draft(id="0" * 32, kind="decision", place=place(), detail={"decision": "accept", "note": ""})
    read = reader_of(open_mask(space, "r", "v"))
    with open_log(space, "r") as log:
        made = log.append(accepted, "ana", 0, read)
        # Sent again since the answer was lost: the same entry.
        assert log.append(accepted, "ana", 0, read) == made
        require_reviewed_mask(log, "v", read)
    add_model(space, "r", "v", guess(1 - truth))
    with pytest.raises(WorkspaceError, match="other pixels than entry 1 of the log was made of"):
        open_reviewed(space, "r")
    with pytest.raises(WorkspaceError, match="not the one that was reviewed"):
        Review(space, "r")
    add_model(space, "r", "v", guess(truth))
    assert len(open_reviewed(space, "r")) == 1


def test_a_mask_that_was_computed_anew_is_not_corrected_blindly(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((1, 64, 64))
    add_volume(space, "v", image)
    add_model(space, "r", "v", guess(truth))
    with open_log(space, "r") as log:
        log.append(draft(1, place(), dot(3, 4)), "ana", 0, reader_of(open_mask(space, "r", "v")))
        add_model(space, "r", "v", guess(1 - truth))
        with pytest.raises(WorkspaceError, match="not the one that was reviewed"):
            replay(space, "r", "v", log)


def test_a_mask_that_was_computed_anew_is_not_reviewed_learned_from_or_judged(tmp_path, caplog):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((2, 64, 64))
    for name in ("same", "other"):
        add_volume(space, name, image)
        add_model(space, "r", name, guess(truth))
        add_pyramids(space, "r", name)
    review = Review(space, "r", checks=Checks(sample=2))
    for name, z in (("same", 0), ("other", 0), ("other", 1)):
        review.regions(name, drawn=True)
        where = Place(volume=name, z=z, y=0, x=0, height=64, width=64)
        for number, (kind, runs, detail) in enumerate(
            [("correction", (5, 9), {"tool": "brush"}), ("decision", (), {"decision": "fix", "note": ""})]
        ):
            made = Draft(
                id=f"{name.encode().hex()}{z}{number}".zfill(16), kind=kind, place=where, runs=runs, detail=detail
            )
            review.append(made, "ana", review.log.head().entries)
    review.close()
    assert [one.volume for one in find_review(space, "r").sampled] == ["same", "other"]
    assert len(open_reviewed(space, "r")) == 2
    add_model(space, "r", "other", guess(1 - truth))
    with pytest.raises(WorkspaceError, match=r"other, section 0: the mask is not the one that was reviewed"):
        open_reviewed(space, "r")
    assert [one.volume for one in find_review(space, "r").sampled] == ["same"]
    assert "other: nothing is said of its review" in caplog.text
    again = Review(space, "r")
    assert list(again.volumes) == ["same"]
    again.close()
    add_model(space, "r", "same", guess(1 - truth))
    with pytest.raises(WorkspaceError, match="not the one that was reviewed"):
        Review(space, "r")


def test_the_head_that_the_report_keeps_is_held_against_the_log(tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((1, 64, 64))
    add_volume(space, "v", image, truth)
    add_model(space, "r", "v", guess(truth))
    assert report("r", space).json is not None
    assert verify_review(space, "r") is None
    read = reader_of(open_mask(space, "r", "v"))
    with open_log(space, "r") as log:
        log.append(draft(1, WHOLE, dot(3, 4)), "ana", 0, read)
        head = log.head()
    kept = read_report(report("r", space).index.parent)
    assert kept.review == head
    path = space.run("r") / LOG
    path.rename(tmp_path / LOG)
    with pytest.raises(WorkspaceError, match="the log of the review is gone"):
        report("r", space)
    with open_log(space, "r") as forged:
        forged.append(draft(1, WHOLE, dot(5, 5)), "ana", 0, read)
    for look in (report, lambda run, space: Review(space, run)):
        with pytest.raises(WorkspaceError, match="not the log that the report"):
            look("r", space)
    for file in path.parent.glob(f"{LOG}*"):
        file.unlink()
    (tmp_path / LOG).rename(path)
    with open_log(space, "r") as log:
        log.append(draft(2, WHOLE, dot(5, 5)), "ana", 1, read)
    assert verify_review(space, "r").entries == 2


def test_a_place_outside_the_volume_is_refused(workspace):
    read = reader_of(open_mask(workspace, "r", "v"))
    with pytest.raises(InputError, match="outside the volume"):
        read(place(290, 0, 20, 20))
    with pytest.raises(InputError, match="outside the volume"):
        read(place(0, 0, 2, 2, z=3))


def test_a_head_of_more_entries_than_there_are_is_not_met(log):
    with pytest.raises(WorkspaceError, match="not the log that the report"):
        log.verify(Head(entries=1, digest="ab" * 32))
