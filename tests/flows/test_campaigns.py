"""Whole campaigns: the same bytes however many volumes are worked on, after kills too, and bad volumes among good."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.campaign import campaign
from segem.config import ExecutionConfig
from segem.learn.artefact import find_model
from segem.stages.campaign import BYTES_BESIDE, open_campaign, place_steps
from segem.stages.forecast import measure_disk
from segem.stages.segmentation.budget import Budget
from tests.processes import ROOT, clean_environment, python

COMMAND = "from segem.cli import main; main()"


def limited(manifest: Path, cpu: int) -> Path:
    """Return a copy of a manifest that takes so many steps at a time."""
    values = yaml.safe_load(manifest.read_text(encoding="utf-8")) | {"resources": {"cpu": cpu}}
    copy = manifest.with_name(f"{cpu}.yaml")
    copy.write_text(yaml.safe_dump(values), encoding="utf-8")
    return copy


def digest_shards(workspace: Path) -> dict[str, str]:
    """Return a digest of each shard of the results in a workspace."""

    def shards() -> Iterator[Path]:
        return (path for path in workspace.glob("runs/*/*.ome.zarr/**/c/**/*") if path.is_file())

    return {str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest() for path in shards()}


def command(manifest: Path, workspace: Path) -> list[str]:
    return [*python(COMMAND), "run", str(manifest), "--workspace", str(workspace), "--run", "r1", "--json"]


@pytest.mark.parametrize(
    ("memory", "engine", "volumes", "reserved"),
    [(3_000_000_000, "loop", 2, BYTES_BESIDE), (1_100_000_000, "loop", 1, 0), (1_100_000_000, "dask", 2, 0)],
)
def test_two_steps_take_no_more_memory_than_one_was_allowed(
    manifest_of: Callable[..., Path], tmp_path: Path, memory: int, engine: str, volumes: int, reserved: int
) -> None:
    job = open_campaign(limited(manifest_of("alpha", "gamma"), 2), "r1", tmp_path / "w")
    asked = ExecutionConfig.model_validate({"memory": memory, "engine": engine, "device": "cpu"})

    places, shared = place_steps(job, asked)

    assert (places.volumes, shared.reserved) == (volumes, reserved)
    alone, beside = (Budget.of(find_model(job.manifest.model, job.workspace), each) for each in (asked, shared))
    assert beside.tile_px == alone.tile_px, "tiles of another size would give other bytes"
    assert beside.memory == alone.memory - reserved


@pytest.mark.usefixtures("prefect_server")
def test_what_else_a_run_holds_is_no_business_of_a_campaign(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    nowhere = {"gamma": {"source": str(tmp_path / "nowhere.tif"), "labels": None}}
    both = campaign(manifest_of("alpha", "gamma", changes=nowhere), "r1", tmp_path / "w", return_state=True)
    assert "1 of 2 volumes failed" in str(both.result(raise_on_failure=False))
    assert campaign(manifest_of("alpha"), "r1", tmp_path / "w", return_state=True).is_completed()


def write_endless(path: Path, free: int) -> None:
    """Write an array of three times the free space that takes little: only sections that are looked at hold noise."""
    height, width, seen = 1024, 1024, 8
    sections = 3 * free // (height * width)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (sections, height, width))
    rng = np.random.default_rng(0)
    for start in (0, (sections - seen) // 2, sections - seen):
        array[start : start + seen] = rng.integers(0, 256, (seen, height, width), np.uint8)


@pytest.mark.slow
@pytest.mark.server
def test_bad_volumes_among_good_ones_are_named_and_stop_no_other(
    manifest_of: Callable[..., Path], tiny_stacks: Path, tmp_path: Path
) -> None:
    corrupt, empty, endless = tmp_path / "corrupt.tif", tmp_path / "empty.tif", tmp_path / "endless.npy"
    whole = (tiny_stacks / "alpha/raw.tif").read_bytes()
    corrupt.write_bytes(whole[: len(whole) // 2])
    empty.write_bytes(b"")
    write_endless(endless, shutil.disk_usage(tmp_path).free)
    values = yaml.safe_load(manifest_of("alpha").read_text(encoding="utf-8"))
    (good,) = values["volumes"]
    bad = {"corrupt": corrupt, "empty": empty, "endless": endless}
    names = [f"good-{number}" for number in range(7)]
    names[1:1], names[4:4], names[8:8] = ["corrupt"], ["empty"], ["endless"]
    values["volumes"] = [
        {"name": name, "source": str(bad[name]), "voxel_nm": [50, 4, 4]} if name in bad else good | {"name": name}
        for name in names
    ]
    manifest = tmp_path / "ten.yaml"
    manifest.write_text(yaml.safe_dump(values), encoding="utf-8")

    done = subprocess.run(
        command(manifest, tmp_path / "w"),
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 1, done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert error.startswith("error: r1: 3 of 10 volumes failed; found ")
    report = json.loads(done.stdout)
    assert {volume["name"]: volume["state"] for volume in report["volumes"]} == {
        name: "failed" if name in bad else "complete" for name in names
    }
    reasons = {volume["name"]: volume["reason"] for volume in report["volumes"] if volume["state"] == "failed"}
    for name, source in bad.items():
        assert str(source) in reasons[name], "the report says which file"
        assert f"{name} (" in error
    assert "does not fit the disk" in reasons["endless"]
    with sqlite3.connect(tmp_path / "w/.prefect/prefect.db") as database:
        assert database.execute("select state_type from flow_run").fetchall() == [("FAILED",)]


@pytest.mark.slow
@pytest.mark.server
def test_a_plan_says_what_a_campaign_takes_and_begins_nothing(manifest_of: Callable[..., Path], tmp_path: Path) -> None:
    manifest = manifest_of("alpha")

    def ask(*more: str) -> dict[str, Any]:
        done = subprocess.run(
            [*command(manifest, tmp_path / "w"), *more],
            env=clean_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        values: dict[str, Any] = json.loads(done.stdout)
        return values

    forecast = ask("--plan")

    assert not (tmp_path / "w/runs/r1").exists()
    assert not (tmp_path / "w/.plan").exists()
    (alpha,) = forecast["volumes"]
    assert (alpha["name"], alpha["sections"], alpha["refusal"]) == ("alpha", 2, None)
    assert 0 < alpha["seconds"] < forecast["seconds"]
    ask()
    assert alpha["disk_bytes"] == pytest.approx(measure_disk(tmp_path / "w"), rel=0.1)
