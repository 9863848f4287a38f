"""A training that ends early and is started again learns what it would have learned."""

from __future__ import annotations

import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segem.config import TrainConfig
from segem.errors import WorkspaceError
from segem.learn.checkpoint import NOTE, STATE, Checkpoints, open_checkpoints
from segem.learn.models.registry import ZOO
from segem.learn.train import Fitted, Progress, fit
from tests.unit.learn.test_train import config, striped

STEPS = 8


class KilledError(Exception):
    """The process is gone."""


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(folder: Path, *, killed_at: int | None = None, every_steps: int = 3, **more: object) -> Fitted:
    """Train for a while with checkpoints every few steps."""
    settings: TrainConfig = config(**({"steps": STEPS, "crop_px": 32} | more))
    step = 0

    def kill(_: Progress) -> None:
        nonlocal step
        step += 1
        if step == killed_at:
            raise KilledError

    with open_checkpoints(folder, 1e9, every_steps) as kept:
        return fit([striped()], [striped()], settings, on_step=kill, kept=kept)


def state(fitted: Fitted) -> dict[str, Tensor]:
    return fitted.net.state_dict()


def equal(one: Fitted, other: Fitted) -> bool:
    pairs = zip(state(one).values(), state(other).values(), strict=True)
    return one.final_loss == other.final_loss and all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return trained(tmp_path_factory.mktemp("undisturbed") / "c")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("killed_at", [2, 3, 5, 6, 7])
def test_it_ends_at_the_same_weights_to_the_last_bit(
    tmp_path: Path, undisturbed: Fitted, killed_at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "models" / ".training-1"
    with pytest.raises(KilledError):
        trained(folder, killed_at=killed_at)
    resumed = trained(folder)
    kept = killed_at // 3 * 3
    assert capsys.readouterr().err == (f"resuming from step {kept}\n" if kept else "")
    assert resumed.steps == STEPS
    assert equal(resumed, undisturbed)
    assert list(folder.parent.iterdir()) == [], "nothing is left behind by a training that ended well"


def test_with_deep_supervision_the_heads_go_on_too(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"architecture": {"features": 2, "depth": 4}, "deep_supervision": True}
    undisturbed = trained(tmp_path / "whole", **deep)
    with pytest.raises(KilledError):
        trained(tmp_path / "c", killed_at=5, **deep)
    assert {"net.heads.0.weight", "net.heads.1.bias"} <= load_file(tmp_path / "c" / STATE).keys()
    assert equal(trained(tmp_path / "c", **deep), undisturbed)


def test_killed_again_and_again(tmp_path: Path, undisturbed: Fitted) -> None:
    for killed_at in (2, 2, 3):
        with pytest.raises(KilledError):
            trained(tmp_path / "c", killed_at=killed_at, every_steps=1)
    assert equal(trained(tmp_path / "c"), undisturbed)


def test_dropout_drops_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ZOO["unet"]
    dropping = replace(spec, build=lambda o: nn.Sequential(spec.build(o), nn.Dropout(0.5)))
    monkeypatch.setitem(ZOO, "unet", dropping)
    once = trained(tmp_path / "a")
    with pytest.raises(KilledError):
        trained(tmp_path / "b", killed_at=4)
    assert equal(trained(tmp_path / "b"), once)


def test_time_that_was_used_is_used(tmp_path: Path) -> None:
    more: dict[str, Any] = {"steps": None, "minutes": 0.02}
    with pytest.raises(KilledError):
        trained(tmp_path / "c", killed_at=3, **more)
    note = tmp_path / "c" / NOTE
    seconds = float(note.read_text().split('"seconds": ')[1].split(",")[0])
    assert seconds > 0
    resumed = trained(tmp_path / "c", **more)
    assert resumed.steps > 3
    assert resumed.minutes == pytest.approx(0.02, rel=0.5)


@pytest.mark.usefixtures("warnings_on_stderr")
@pytest.mark.parametrize("file", [STATE, NOTE])
@pytest.mark.parametrize("damage", ["lost", "cut", "flipped"])
def test_a_damaged_checkpoint_is_named_and_training_starts_anew(
    tmp_path: Path, undisturbed: Fitted, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KilledError):
        trained(tmp_path / "c", killed_at=4)
    path = tmp_path / "c" / file
    content = bytearray(path.read_bytes())
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        # Of the note, the digit of the step: it could still be read.
        at = content.index(b"3") if file == NOTE else len(content) - 5
        content[at] ^= 1
        path.write_bytes(content)
    assert equal(trained(tmp_path / "c"), undisturbed)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "c") in line
    assert "the checkpoint is damaged" in line


def test_a_full_disk_is_one_clear_error_and_keeps_the_checkpoint_before(tmp_path: Path, undisturbed: Fitted) -> None:
    with pytest.raises(KilledError):
        trained(tmp_path / "c", killed_at=4)
    before = {file.name: file.read_bytes() for file in (tmp_path / "c").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        full = r"the disk reported an error; found .*File too large.*Fix: raise the file size"
        with pytest.raises(WorkspaceError, match=full):
            trained(tmp_path / "c")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file.name: file.read_bytes() for file in (tmp_path / "c").iterdir()} == before
    assert equal(trained(tmp_path / "c"), undisturbed)


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / f"..training-1.{'0' * 32}.partial"
    left.mkdir()
    with open_checkpoints(tmp_path / ".training-1", 1, 1):
        assert not left.exists()


def test_the_same_training_cannot_run_twice_at_once(tmp_path: Path) -> None:
    with (
        open_checkpoints(tmp_path / "c", 1, 1),
        pytest.raises(WorkspaceError, match="another process is writing here"),
        open_checkpoints(tmp_path / "c", 1, 1),
    ):
        pass


def test_nothing_is_written_before_it_is_time(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c", every_seconds=1e9, every_steps=100)
    fit([striped()], [striped()], config(steps=2, crop_px=32), kept=kept)
    assert not (tmp_path / "c").exists()


def test_ctrl_c_waits_for_the_step_and_keeps_what_was_learned(undisturbed: Fitted, tmp_path: Path) -> None:
    settings, steps = config(steps=STEPS, crop_px=32), 0

    def press(_: Progress) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), open_checkpoints(tmp_path / "c", 1e9, 10**9) as kept:
        fit([striped()], [striped()], settings, on_step=press, kept=kept)
    assert '"step": 3' in (tmp_path / "c" / NOTE).read_text()
    assert equal(trained(tmp_path / "c"), undisturbed)
