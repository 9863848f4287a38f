"""Progress is drawn for people at a terminal, and told in lines to pipes and log files."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from segem import amounts, progress
from segem.amounts import Pace, rate_text
from segem.progress import Part, shown, track, warnings_told


class Terminal(io.StringIO):
    """A terminal of 80 columns, as far as a program can tell."""

    def isatty(self) -> bool:
        return True


def wait_for(told: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not told():
        assert time.monotonic() < until, "nothing is said"
        time.sleep(0.01)


def lines_while(
    capsys: pytest.CaptureFixture[str], work: Callable[[], None], enough: Callable[[list[str]], bool]
) -> list[str]:
    """Do some work, wait until its lines on stderr are enough, and return them."""
    lines: list[str] = []

    def told() -> bool:
        lines.extend(capsys.readouterr().err.splitlines())
        return enough(lines)

    work()
    wait_for(told)
    return lines


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    monkeypatch.setattr(amounts, "LEAST_SECONDS", 0.0)


@pytest.mark.usefixtures("often")
def test_a_log_file_gets_lines_with_share_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), track("ingest isbi", 4, "section") as advance:
        lines = lines_while(capsys, lambda: advance(1, "loss 0.5"), lambda seen: "25%" in "".join(seen))
    line = lines[-1]
    assert re.fullmatch(r"ingest isbi: 25%, \S+ sections/(s|min), \S+ s left, loss 0\.5", line), line


@pytest.mark.usefixtures("often")
def test_a_stage_that_takes_long_over_its_first_block_says_that_it_is_alive(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), track("segment isbi", 4, "block"):
        lines = lines_while(capsys, lambda: None, lambda seen: len(seen) >= 2)
    assert set(lines) == {"segment isbi: 0%"}


def test_a_short_stage_says_that_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), track("baseline isbi", 2_000_000) as advance:
        advance(2_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"baseline isbi: done in \d\.\d s, \S+ [GMk]?px/s", lines[0]), lines


def test_a_stage_that_fails_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with shown(), track("baseline isbi", 2) as advance:
            advance(2)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert capsys.readouterr().err == ""


def test_work_without_a_unit_says_its_share_and_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), track("train unet", 1, unit="") as advance:
        part = Part(advance)
        for share in (0.25, 0.5, 1.0):
            part(share, "loss 0.5")
    assert re.fullmatch(r"train unet: done in \S+ s\n", capsys.readouterr().err)


@pytest.mark.usefixtures("often")
def test_volumes_in_several_threads_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    volumes, started = [f"v{number}" for number in range(4)], threading.Barrier(5)

    def work(volume: str) -> None:
        with track(f"segment {volume}", 100, "section") as advance:
            for _ in range(50):
                advance(1)
            started.wait()
            started.wait()
            for _ in range(50):
                advance(1)

    with shown():
        threads = [threading.Thread(target=work, args=(volume,)) for volume in volumes]
        for thread in threads:
            thread.start()
        started.wait()
        half = lines_while(capsys, lambda: None, lambda seen: all(any(f"{v}: 50%" in x for x in seen) for v in volumes))
        started.wait()
        for thread in threads:
            thread.join()
    assert all(re.match(r"segment v\d: (50|[1-4]?\d)%", line) for line in half), half
    ends = [line for line in capsys.readouterr().err.splitlines() if "done" in line]
    assert sorted(line.split(":")[0] for line in ends) == [f"segment {volume}" for volume in volumes]


def test_a_rate_too_small_for_an_hour_is_one_of_days() -> None:
    assert rate_text(1 / 100_000, "training") == "0.9 trainings/day"


def test_a_terminal_of_80_columns_shows_a_bar_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console = Console(file=Terminal(), force_terminal=True, width=80)
    display = progress._display(console)
    stages = {
        "segment " + "v" * 95: ("voxel", ""),
        "train deeplab-v3-resnet101": ("", "loss 0.123, val IoU 0.712"),
        "learning curve": ("training", "unet-em, 16 sections, seed 2"),
    }
    for name, (unit, note) in stages.items():
        pace = Pace(started=0.0)
        pace.note(3600.0, 300.0)
        display.add_task(name, total=1000.0, completed=300, unit=unit, note=note, pace=pace, earlier=0.0)
    lines = [
        "".join(part.text for part in line).rstrip()
        for line in console.render_lines(display.get_renderable(), pad=False)
    ]
    assert len(lines) == len(stages)
    assert max(map(len, lines)) <= 80
    assert "…" in lines[0].split(" ")[1], "a long name is cut short, and nothing else"
    assert lines[0].endswith("30%, 0.1 px/s, 2 h 20 min left")
    assert lines[1].endswith("30%, 2 h 20 min left, loss 0.123, val IoU 0.712")


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (120, "30%, 2 h 20 min left, loss 0.123, val IoU 0.712, 0.1 steps/s"),
        (80, "30%, 2 h 20 min left, loss 0.123, val IoU 0.712"),
        (60, "30%, 2 h 20 min left"),
        (40, "30%"),
        (20, "30%"),
    ],
)
def test_what_does_not_fit_is_left_out_whole(width: int, said: str) -> None:
    display = progress._display(Console(file=Terminal(), force_terminal=True, width=width))
    pace = Pace(started=0.0)
    pace.note(3600.0, 300.0)
    note = "loss 0.123, val IoU 0.712, 0.1 steps/s"
    display.add_task("train unet", total=1000.0, completed=300, unit="", note=note, pace=pace, earlier=0.0)
    facts = display.columns[-1]
    assert isinstance(facts, progress._Facts)
    assert facts.render(display.tasks[0]).plain == said


def test_sections_that_end_together_promise_nothing() -> None:
    pace = Pace(started=0.0)
    pace.note(0.01, 1)
    assert pace.per_second is None, "0.01 s say nothing"
    pace = Pace(started=0.0)
    pace.note(8.0, 1)
    pace.note(8.00002, 1)
    assert pace.per_second == pytest.approx(0.25, rel=1e-4), "two threads took 8 s each"


def test_the_rate_is_that_of_the_last_minute() -> None:
    pace = Pace(started=0.0)
    pace.note(1.0, 1000)
    for second in range(10, 200, 10):
        pace.note(second, 1)
    assert pace.per_second == pytest.approx(0.1)


def test_a_block_that_takes_longer_than_a_minute_has_a_rate() -> None:
    pace = Pace(started=0.0)
    pace.note(100.0, 1)
    pace.note(200.0, 1)
    assert pace.per_second == pytest.approx(0.01)


@pytest.mark.usefixtures("often")
def test_work_of_unknown_size_shows_its_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), track("download isbi", None, "byte") as advance:
        lines = lines_while(capsys, lambda: advance(1000, "1 kB"), lambda seen: "1 kB" in "".join(seen))
    assert re.fullmatch(r"download isbi: \S+ [GMk]?B/s, 1 kB", lines[-1]), lines
    assert lines[0] in ("download isbi: under way", lines[-1])


def test_what_was_finished_earlier_counts_in_the_share_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), track("download isbi", 2e9, "byte", done=10**9):
        pass
    assert re.fullmatch(r"download isbi: done in \S+ s\n", capsys.readouterr().err)


def test_work_goes_on_where_nobody_reads_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    with shown(), track("ingest isbi", 1, "section") as advance:
        advance(1)


def test_bars_of_a_terminal_end_with_a_line_of_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    with shown(), track("ingest isbi", 2, "section") as outer:
        with track("within", 1, "block") as advance:
            advance(1)
        outer(2)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"within: done in \S+ s", said)
    assert re.search(r"ingest isbi: done in \S+ s", said)
    assert "━" in said


def test_nothing_is_said_when_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_follower_hears_of_its_own_work_alone() -> None:
    heard: dict[str, list[str]] = {"a": [], "b": []}
    both = threading.Barrier(2, timeout=60)

    def work(name: str) -> None:
        with (
            progress.followed(lambda what, _share, _line: heard[name].append(what), 0.01),
            track(f"work on {name}", 2) as advance,
        ):
            both.wait()
            advance(1)
            deadline = time.monotonic() + 60
            while not heard[name] and time.monotonic() < deadline:
                time.sleep(0.005)
            both.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {name: set(what) for name, what in heard.items()} == {"a": {"work on a"}, "b": {"work on b"}}
