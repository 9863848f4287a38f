"""Writes are whole or absent, whatever happens in the middle."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from segem.errors import WorkspaceError
from segem.io import files
from segem.io.files import disk_errors, locked, new_directory, new_file, sweep_partials, write_bytes, write_text


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_text_replaces_text(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "µ-new")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "µ-new"
    assert everything_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    write_bytes(tmp_path / "a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.replace", full)
    with pytest.raises(WorkspaceError, match=r"a: .*No space left on device \(\d+ MB free\)\. Fix: free some space"):
        write_bytes(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert everything_in(tmp_path) == ["a"]


def test_data_are_durable_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        order.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync file")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_text(tmp_path / "a", "text")
    assert order == ["fsync file", "rename", "fsync folder"]


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "writable disk"),
        (errno.EACCES, "may write to"),
        (errno.EPERM, "may write to"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "check the disk"),
    ],
)
def test_disk_errors_say_what_to_do(tmp_path: Path, number: int, fix: str) -> None:
    with pytest.raises(WorkspaceError) as caught, disk_errors(tmp_path / "not" / "there"):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(caught.value)
    assert fix in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), disk_errors(tmp_path):
        raise ValueError("mine")


def test_a_new_file_appears_whole(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as partial:
        partial.write_text("x")
        assert not (tmp_path / "a").exists()
    assert everything_in(tmp_path) == ["a"]


def test_a_new_directory_appears_whole(tmp_path: Path) -> None:
    with new_directory(tmp_path / "deep" / "v") as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "x").write_text("x")
        assert partial.name.startswith(".v.")
        assert not (tmp_path / "deep" / "v").exists()
    assert everything_in(tmp_path) == ["deep", "deep/v", "deep/v/sub", "deep/v/sub/x"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_directory_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "old").touch()

    def fail() -> None:
        with new_directory(tmp_path / "v") as partial:
            (partial / "new").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert everything_in(tmp_path) == ["v", "v/old"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_directory_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    for name in ("old", "new"):
        with new_directory(tmp_path / "v") as partial:
            (partial / name).touch()
    assert everything_in(tmp_path) == ["v", "v/new"]


def test_a_reader_never_misses_a_directory_that_is_replaced(tmp_path: Path) -> None:
    def fill(generation: int) -> None:
        with new_directory(tmp_path / "v") as partial:
            (partial / "x").write_text(str(generation))

    fill(0)
    missed: list[FileNotFoundError] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                (tmp_path / "v" / "x").read_text()
            except FileNotFoundError as error:
                missed.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for generation in range(1, 30):
        fill(generation)
    done.set()
    reader.join()
    assert (tmp_path / "v" / "x").read_text() == "29"
    assert not missed


def test_only_leftovers_are_swept(tmp_path: Path) -> None:
    ours = f".v.{uuid.uuid4().hex}.partial"
    (tmp_path / ours / "sub").mkdir(parents=True)
    chunk = tmp_path / "w" / "c" / f"0.{uuid.uuid4().hex}.partial"
    chunk.parent.mkdir(parents=True)
    chunk.touch()
    (tmp_path / "thesis.partial").touch()
    assert sweep_partials(tmp_path, "v") == [tmp_path / ours]
    assert chunk.exists()
    assert sweep_partials(tmp_path) == [chunk]
    assert everything_in(tmp_path) == ["thesis.partial", "w", "w/c"]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    lock = tmp_path / "v.lock"
    with locked(lock):
        told = f"another process is writing here; found process {os.getpid()} on"
        with pytest.raises(WorkspaceError, match=told), locked(lock):
            pytest.fail("held twice")
        with locked(tmp_path / "w.lock"):
            pass
    with locked(lock):
        pass
    assert everything_in(tmp_path) == []


def test_a_waiting_lock_gets_its_turn(tmp_path: Path) -> None:
    order: list[int] = []

    def take(number: int) -> None:
        with locked(tmp_path / "lock", wait=True):
            order.append(number)
            time.sleep(0.002)
            order.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(order) == sorted(list(range(8)) * 2)
    assert order[::2] == order[1::2], "two threads were inside at once"


def test_a_killed_process_lets_go_of_its_lock(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from segem.io.files import locked
with locked(Path({str(tmp_path)!r}) / "lock"):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match=f"process {child.pid} on"), locked(tmp_path / "lock"):
            pytest.fail("held twice")
        child.send_signal(signal.SIGKILL)
    with locked(tmp_path / "lock"):
        pass


def test_sweeping_a_name_takes_nested_leftovers_and_spares_other_names(tmp_path: Path) -> None:
    first, second = "0" * 32, "1" * 32
    ours = [f".v.zarr.{first}.partial", f"..v.zarr.{first}.partial.{second}.partial"]
    others = [f".xv.zarr.{first}.partial", f".v.zarr.b.zarr.{first}.partial", "v.zarr", ".v.zarr.partial"]
    for name in (*ours, *others):
        (tmp_path / name).mkdir()
    assert sorted(path.name for path in sweep_partials(tmp_path, "v.zarr")) == sorted(ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_holder_that_has_only_just_begun_is_named(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    late = threading.Timer(0.05, os.write, (descriptor, b"process 7 on moon"))
    late.start()
    with pytest.raises(WorkspaceError, match="process 7 on moon"), locked(tmp_path / "lock"):
        pass
    late.join()
    os.close(descriptor)
