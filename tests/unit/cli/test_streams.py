"""Streams that lack characters, are full or that nobody reads."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segem.cli import main
from segem.cli.streams import set_up_streams
from segem.stages.models.catalogue import CATALOGUE

SEGEM = [sys.executable, "-m", "segem"]
LIST = [*SEGEM, "data", "list"]


class Standard(io.TextIOWrapper):
    """A standard stream of an encoding, which keeps its bytes."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "Ciresan²\u2013ş…│"), ("latin-1", "Ciresan²-s??"), ("ascii", "Ciresan2-s??")],
)
def test_what_an_encoding_lacks_has_a_stand_in(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [Standard(encoding), Standard(encoding)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    set_up_streams()
    text = "Ciresan²\u2013ş…│"
    for stream in streams:
        print(text, end="", file=stream)
        assert stream.text() == shown


def test_a_name_that_is_no_text_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Standard("utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    set_up_streams()
    print(b"s\xe9ction".decode("utf-8", "surrogateescape"), end="")
    assert stream.text() == "s?ction"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("words", ["models list", "data list", "runs", "--help", "ingest --help"])
def test_no_command_needs_more_than_ascii(
    words: str, encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = Standard(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["segem", *words.split()])
    monkeypatch.setenv("SEGEM_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert len(stream.text()) > 100 or words == "runs"


def test_an_ascii_terminal_of_40_columns_gets_whole_numbers() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    done = subprocess.run([*SEGEM, "models", "list"], capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode("ascii")
    for net in json.loads(CATALOGUE.read_text(encoding="utf-8")):
        assert f"parameters: {net['parameters']:,}\n" in out


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(LIST, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "error: stdout: the output cannot be written; found No space left on device. Fix: send it elsewhere\n"
    )


def test_whoever_has_seen_enough_is_told_nothing() -> None:
    process = subprocess.Popen(LIST, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), (">/dev/full 2>&-", 1), ("2>/dev/full no-such", 2)])
def test_no_stream_has_to_be_there(closed: str, code: int, tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m segem data list --json {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
