"""A training that is killed with SIGKILL, at random moments and again while it goes on, ends at the same weights."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import tifffile
import yaml

from segem.config import SynthConfig
from segem.kernels.synth import synthesize
from segem.learn.artefact import WEIGHTS, load_artefact
from segem.learn.checkpoint import NOTE
from segem.records.card import Calibration

KILLS = int(os.environ.get("SEGEM_KILLS", "3"))
STEPS = 60


def command(folder: Path, workspace: str, more: str) -> list[str]:
    """Return a training of a few seconds, with checkpoints as often as can be."""
    words = f"train {folder / 'm.yaml'} --out mine --steps {STEPS} --batch 1 --checkpoint-seconds 0.001 --device cpu"
    return [
        sys.executable,
        "-c",
        "from segem.cli import main; main()",
        *words.split(),
        *more.split(),
        "--workspace",
        str(folder / workspace),
    ]


def run(folder: Path, workspace: str, more: str, kill_at: int | None = None, later_s: float = 0) -> tuple[int, str]:
    """Run the training, kill it a little after the checkpoint of a step, and return how it ended."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(folder, workspace, more), env=one_thread, stderr=subprocess.PIPE, text=True)
    if kill_at is not None:
        while process.poll() is None and reached(folder / workspace) < kill_at:
            time.sleep(0.005)
        time.sleep(later_s)
        process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    return process.returncode, errors


def reached(workspace: Path) -> int:
    """Return the step of the newest checkpoint, 0 without one."""
    for note in (workspace / "models").glob(f"mine/.training-*[0-9a-f]/{NOTE}"):
        with suppress(FileNotFoundError):  # the next one is taking its place
            return int(note.read_text().split('"step": ')[1].split(",")[0].rstrip("} \n"))
    return 0


def learned(folder: Path, workspace: str) -> tuple[str, Calibration, float]:
    """Return all of a model that changes what it gives: weights, calibration, threshold."""
    (file,) = (folder / workspace / "models").rglob(WEIGHTS)
    card = load_artefact(file.parent).card
    return sha256(file.read_bytes()).hexdigest(), card.calibration, card.threshold


@pytest.mark.slow
@pytest.mark.parametrize(("more", "kills"), [("", KILLS), ("--deep-supervision", 1)])
def test_killed_at_random_moments_it_ends_at_the_same_weights(tmp_path: Path, more: str, kills: int) -> None:
    em = synthesize(SynthConfig(shape=(3, 64, 64), seed=1))
    tifffile.imwrite(tmp_path / "t.tif", em.image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "l.tif", em.truth * 255, photometric="minisblack")
    volume: dict[str, Any] = {"name": "t", "source": "t.tif", "voxel_nm": [50, 4, 4]}
    volume["labels"] = {"source": "l.tif", "membrane": "nonzero"}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"name": "m", "volumes": [volume]}))

    code, errors = run(tmp_path, "undisturbed", more)
    assert code == 0, errors
    rng, went_on = random.Random(0), 0
    for step in sorted(rng.sample(range(1, STEPS - 5), kills)):
        code, errors = run(tmp_path, "killed", more, step, rng.uniform(0, 0.05))
        went_on += "resuming from step" in errors
        if code == 0:
            break
        assert code == -signal.SIGKILL, errors
        assert not list((tmp_path / "killed" / "models").rglob("model.json"))
    else:
        code, errors = run(tmp_path, "killed", more)
        assert code == 0, errors
        went_on += "resuming from step" in errors
    assert went_on > 0, "no kill hit the training between its first and its last checkpoint"
    assert learned(tmp_path, "killed") == learned(tmp_path, "undisturbed")
    assert [path.name for path in (tmp_path / "killed" / "models" / "mine").glob(".*")] == []
