"""Locks and ledgers on disks that hosts share: the kind of disk and the host are injected, all else is real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from segem.errors import WorkspaceError
from segem.io import disks, holder, leases
from segem.io.files import locked
from segem.io.holder import Holder, boot_id, started_at, this_host, this_process
from segem.io.leases import Lease, leased
from segem.io.ledger import Ledger, LedgerRow, PhaseKey, read_ledger
from tests.processes import ROOT, wait_for

NFS = 0x6969
KEY = PhaseKey("v", "segment", "blocks")
ROW = LedgerRow("a" * 64, "b" * 64, b"7")
# What another process does, on this host or on one that calls itself otherwise.
PRELUDE = """
import sys, time
from pathlib import Path
from segem.io import disks, holder, leases
from segem.io.files import locked
from segem.io.ledger import Ledger
disks.magic_of = lambda folder: 0x6969
leases.BEAT_SECONDS, leases.SILENT_SECONDS, leases.LOOK_SECONDS = 0.2, 2.0, 0.02
host, place = sys.argv[1], Path(sys.argv[2])
if host:
    holder.this_host = lambda: host
"""
HOLD = "with locked(place): print('held', flush=True); time.sleep(60)"
OPEN = "with Ledger(place): print('held', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "magic_of", lambda folder: NFS)
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(leases, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.02)


class Other:
    """A process that does something under a lease."""

    def __init__(self, what: str, place: Path, host: str = "") -> None:
        command = [sys.executable, "-c", PRELUDE + what, host, str(place)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_process_at_a_time_holds_a_lease(tmp_path: Path) -> None:
    place = tmp_path / ".v.lock"
    with locked(place):
        (name,) = files(tmp_path)
        assert name.startswith(".v.lock.")
        told = f"another process is writing here; found process {os.getpid()} on {this_host()}"
        with pytest.raises(WorkspaceError, match=told), locked(place):
            pass
        # Another lock beside it, whose name begins alike.
        with locked(tmp_path / ".v.lock2"), locked(tmp_path / ".v"):
            pass
    assert files(tmp_path) == []
    with locked(place):
        pass


def test_what_fails_under_a_lease_is_not_blamed_on_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / ".v.lock"):
        (tmp_path / "nowhere").read_text()
    assert files(tmp_path) == []


def test_another_host_is_refused_by_name_and_followed_when_it_dies(tmp_path: Path) -> None:
    place = tmp_path / ".v.lock"
    with Other(HOLD, place, host="node17") as other:
        for _ in range(2):
            with pytest.raises(WorkspaceError, match=f"process {other.process.pid} on node17"), locked(place):
                pass
        other.process.send_signal(signal.SIGKILL)
        other.process.wait()
        started = time.monotonic()
        with locked(place):
            assert len(files(tmp_path)) == 1, "what the dead one left is gone"
    # It was watched for as long as it may be silent, since its host may only be slow.
    assert time.monotonic() - started >= 2.0


def test_a_killed_process_of_this_host_is_followed_at_once(tmp_path: Path) -> None:
    place = tmp_path / ".v.lock"
    with Other(HOLD, place) as other:
        with pytest.raises(WorkspaceError, match=f"process {other.process.pid} on"), locked(place):
            pass
        other.process.kill()
        started = time.monotonic()
        wait_for(lambda: not started_at(other.process.pid), 10)
        with locked(place):
            pass
    assert time.monotonic() - started < 1.5


def test_a_holder_is_waited_for(tmp_path: Path) -> None:
    place, order = tmp_path / ".v.lock", []

    def second() -> None:
        with locked(place, wait=True):
            order.append("second")

    with locked(place):
        waiter = threading.Thread(target=second)
        waiter.start()
        time.sleep(0.3)
        order.append("first")
    waiter.join(10)
    assert order == ["first", "second"]


def test_of_many_that_ask_at_once_never_two_hold(tmp_path: Path) -> None:
    place, inside, most, done = tmp_path / ".v.lock", [0], [0], []
    counting = threading.Lock()

    def ask() -> None:
        for _ in range(5):
            with locked(place, wait=True):
                with counting:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.002)
                with counting:
                    inside[0] -= 1
                    done.append(1)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    assert most == [1]
    assert len(done) == 20
    assert files(tmp_path) == []


def test_who_was_taken_for_dead_is_told_and_comes_not_back(tmp_path: Path) -> None:
    with ExitStack() as stack:
        lease = stack.enter_context(leased(tmp_path / ".v.lock"))
        lease.require()
        lease.file.unlink()
        time.sleep(0.6)
        assert files(tmp_path) == []
        with pytest.raises(WorkspaceError, match="others took it for dead"):
            lease.require()


def test_a_ledger_belongs_to_the_processes_of_one_host(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Other(OPEN, path), Ledger(path) as ledger, Ledger(path):
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        ledger.record(KEY, {(0, 0, 0): ROW})
        assert not (tmp_path / "ledger.sqlite-wal").exists()
    with (
        Other(OPEN, path, host="node17") as other,
        pytest.raises(WorkspaceError, match=f"process {other.process.pid} on node17"),
    ):
        Ledger(path)
    # Its file is still there, and it is silent.
    with Ledger(path) as ledger:
        assert ledger.rows(KEY) == {(0, 0, 0): ROW}


def test_a_ledger_that_was_taken_over_takes_no_row(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record(KEY, {(0, 0, 0): ROW})
        for file in tmp_path.glob(".ledger.sqlite.lock.*"):
            file.unlink()
        with pytest.raises(WorkspaceError, match="others took it for dead"):
            ledger.record(KEY, {(0, 0, 1): ROW})
        assert list(ledger.rows(KEY)) == [(0, 0, 0)]


def test_a_ledger_is_read_while_another_host_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as writer:
        writer.record(KEY, {(0, 0, 0): ROW})
        # A change that is not committed has its journal beside the file; a reader there must not take it back.
        writer._db.execute("BEGIN IMMEDIATE")
        writer._db.execute("DELETE FROM blocks")
        with read_ledger(path) as reader:
            assert list(reader.rows(KEY)) == [(0, 0, 0)]
        writer._db.execute("COMMIT")
        assert writer.rows(KEY) == {}
    assert files(tmp_path) == ["ledger.sqlite"]


def test_a_ledger_that_moves_to_a_shared_disk_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    with monkeypatch.context() as local:
        local.setattr(disks, "magic_of", lambda folder: 0xEF53)
        with Ledger(path) as ledger:
            assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            ledger.record(KEY, {(0, 0, 0): ROW})
    with Ledger(path) as ledger:
        assert ledger.rows(KEY) == {(0, 0, 0): ROW}


def test_a_process_number_that_was_given_again_is_another_process() -> None:
    me = this_process()
    assert Holder.parse(me.text()) == me
    assert me.lives()
    assert not Holder(me.pid, me.host, me.started + 1, me.boot).lives()
    assert not Holder(me.pid, me.host, me.started, "another-boot").lives()
    assert Holder(me.pid, "another-host", 1, "x").lives(), "nobody can tell from here"
    # As older versions have written it.
    assert Holder.parse(f"process {me.pid} on {me.host}").lives()
    assert Holder.parse("process of nobody") is None


def test_a_host_of_the_same_name_is_not_this_one() -> None:
    me = this_process()
    assert me.is_here()
    assert not Holder(me.pid, me.host, me.started, "another-boot").is_here()
    assert boot_id() == me.boot != ""


def test_a_zombie_does_not_live(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        wait_for(lambda: started_at(process.pid) == 0, 20)


@pytest.mark.parametrize(
    ("magic", "kind"), [(NFS, "NFS"), (0x0BD00BD0, "Lustre"), (0x47504653, "GPFS"), (0xEF53, None), (0, None)]
)
def test_kinds_of_disks_are_told_apart(magic: int, kind: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "magic_of", lambda folder: magic)
    assert disks.shared_kind(Path()) == kind


def test_the_system_is_asked_for_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    # From Linux's <linux/magic.h>.
    assert disks.magic_of(Path("/proc")) == 0x9FA0
    with pytest.raises(FileNotFoundError):
        disks.magic_of(Path("/nowhere"))


def test_a_lease_whose_file_is_gone_does_not_write_it_again(tmp_path: Path) -> None:
    lease = Lease(tmp_path / ".v.lock.1")
    lease.beat("asks")
    assert holder.Holder.parse(lease.file.read_text()) == this_process()
    lease.file.unlink()
    lease.beat("holds")
    assert files(tmp_path) == []
