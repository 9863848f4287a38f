"""The server of a review among those who save at once, and killed while they do."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from segem.io.reviewed import open_log, open_mask, replay
from segem.io.reviews import ReviewLog
from segem.kernels.flips import share_region
from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import SHEET
from segem.review.apart import Checks
from segem.review.app import make_app
from segem.review.session import Review
from segem.serving import listen, serve
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue
from tests.processes import clean_environment, free_port, python, started, wait_for

KILLS = int(os.environ.get("SEGEM_REVIEW_SERVER_KILLS", "3"))
EDITS = int(os.environ.get("SEGEM_REVIEW_EDITS", "12"))
SAVERS, CLIENTS, EDGE = 4, 8, 24
SHAPE = (1, 512, 512)
TOKENS = [f"person-{n}-" * 4 for n in range(CLIENTS)]
SERVER = """
import sys
from pathlib import Path
from segem.io.workspace import Workspace
from segem.review.app import make_app
from segem.review.apart import Checks
from segem.review.session import Review
from segem.serving import ServerConfig, listen, serve
import signal
review = Review(Workspace(Path(sys.argv[1])), "r", checks=Checks(control_every=2))
people = {f"person-{n}-" * 4: f"person {n}" for n in range(8)}
with listen(ServerConfig(port=int(sys.argv[2]))) as listener, serve(make_app(review), listener, people.get):
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture
def space(tmp_path):
    made = new_workspace(tmp_path / "w")
    image, truth = tissue(SHAPE)
    add_volume(made, "v", image)
    add_model(made, "r", "v", guess(truth))
    return made


class Saver:
    """A page that saves without a pause, as the real one does: what was not acknowledged is sent again, the same."""

    def __init__(self, address: str, number: int) -> None:
        self.number, self.seen = number, 0
        self.waiting: dict[str, Any] | None = None
        self.acknowledged: list[tuple[str, int]] = []
        self.told = 0
        self.random = np.random.default_rng(number)
        self.http = httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {TOKENS[number]}"}, trust_env=False, timeout=60
        )

    def draw(self, corner: tuple[int, int]) -> dict[str, Any]:
        place = {"volume": "v", "z": 0, "y": corner[0], "x": corner[1], "height": EDGE, "width": EDGE}
        flips = self.random.random((EDGE, EDGE)) < 0.1
        return {"id": str(uuid.uuid4()), "place": place, "runs": encode_runs(flips), "tool": "brush"}

    def save(self, corner: tuple[int, int]) -> None:
        """Send one stroke until it is acknowledged; who is told of others looks at what they did first."""
        sent = self.waiting = self.waiting or self.draw(corner)
        while True:
            headers = {"If-Match": f'"{self.seen}"'}
            answer = self.http.post("/api/corrections", json=sent, headers=headers)
            if answer.status_code == 201:
                break
            assert answer.status_code == 412, answer.text
            self.seen, self.told = answer.json()["changes"][-1]["number"], self.told + 1
        self.acknowledged.append((sent["id"], self.seen))
        self.seen, self.waiting = answer.json()["entry"]["number"], None


@contextmanager
def running(space, port: int, log: Path) -> Iterator[int]:
    command = [*python(SERVER), str(space.root), str(port)]
    before = log.read_text().count("ready") if log.exists() else 0
    with started(command, log, clean_environment()) as process:
        wait_for(lambda: log.exists() and log.read_text().count("ready") > before, 60, log)
        yield process.pid


@pytest.mark.slow
def test_a_killed_server_loses_nothing_that_was_acknowledged(space, tmp_path):
    port, log = free_port(), tmp_path / "log"
    savers = [Saver(f"http://127.0.0.1:{port}", number) for number in range(SAVERS)]
    for kill in range(KILLS):
        with running(space, port, log) as pid:
            enough = [threading.Event() for _ in savers]

            def work(saver, event, wanted=2 + kill % 5):
                with suppress(httpx.TransportError):
                    for number in range(10**6):
                        # Over the borders of regions too, some of which are kept apart.
                        saver.save((50 * saver.number + number % 200, 245 - 3 * (number % 9)))
                        if number == wanted:
                            event.set()

            threads = [threading.Thread(target=work, args=pair) for pair in zip(savers, enough, strict=True)]
            for thread in threads:
                thread.start()
            assert all(event.wait(120) for event in enough)
            os.kill(pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
    with running(space, port, log):
        for saver in savers:
            # What was on its way when the server died.
            if saver.waiting is not None:
                saver.save((0, 0))
            saver.http.close()
    with open_log(space, "r") as found:
        check_log(space, found, savers)
    assert min(len(saver.acknowledged) for saver in savers) >= 3 * KILLS


@pytest.mark.slow
def test_many_who_edit_one_region_at_once_overwrite_nothing_unseen(space):
    review = Review(space, "r", checks=Checks(control_every=2))
    people = {token: f"person {n}" for n, token in enumerate(TOKENS)}
    with listen() as listener, serve(make_app(review), listener, people.get):
        savers = [Saver(listener.address, number) for number in range(CLIENTS)]

        def work(saver):
            for number in range(EDITS):
                saver.save((10 + number % 50, 20))

        threads = [threading.Thread(target=work, args=(saver,)) for saver in savers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for saver in savers:
            saver.http.close()
        assert [len(saver.acknowledged) for saver in savers] == [EDITS] * CLIENTS
        assert sum(saver.told for saver in savers) > 0
        check_log(space, review.log, savers)


def check_log(space, log: ReviewLog, savers: list[Saver]) -> None:
    """Check that all is there once, that nobody overwrote what they had not seen, and that it all adds up."""
    log.verify()
    made = [entry for entry in log.entries(("correction",)) if entry.place]
    whole = {entry.id for entry in made if len(entry.id) == 36} | {entry.id[:36] for entry in made}
    acknowledged = [one for saver in savers for one in saver.acknowledged]
    assert {id_ for id_, _ in acknowledged} == whole
    assert len(acknowledged) == len(whole)
    seen = dict(acknowledged)
    shared = [entry for entry in made if SHEET not in entry.place.volume]
    for entry in shared:
        unseen = [
            one.number
            for one in shared
            if seen[entry.id[:36]] < one.number < entry.number
            and one.author != entry.author
            and share_region(one.place, entry.place, 256)
        ]
        assert unseen == [], f"entry {entry.number} was made by somebody who had seen {seen[entry.id[:36]]}"
    expected = np.zeros(SHAPE[1:], bool)
    for entry in shared:
        p = entry.place
        expected[p.y : p.y + p.height, p.x : p.x + p.width] ^= decode_runs(entry.runs, (p.height, p.width))
    base = np.asarray(open_mask(space, "r", "v")[0]) == 1
    assert np.array_equal(replay(space, "r", "v", log)[0] == 1, base ^ expected)
