"""The manifests in data/ are valid, agree with the registry and fit the real data where it is at hand."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import tifffile

from segem.config import BUNDLED_MODEL, Manifest, load_manifest
from segem.stages.volumes.data import find_set

DATA = Path(__file__).resolve().parents[2] / "data"
MANIFESTS = (
    "all",
    "isbi-only",
    "isbi-vnc",
    "isbi-zoo",
    "recipe",
    "unet-em-calibration",
    "unet-em-context",
    "unet-em-finish",
    "unet-em-joint",
    "unet-em-open",
    "unet-em-open-calibration",
    "unet-em-train",
    "vnc-five",
)


def manifest(name: str, root: Path) -> Manifest:
    return load_manifest(DATA / "manifests" / f"{name}.yaml", data_root=root)


def sections(source: Path) -> int:
    if source.is_dir():
        return len([path for path in source.iterdir() if path.suffix in {".tif", ".png"}])
    with tifffile.TiffFile(source) as tiff:
        return len(tiff.pages)


def test_every_manifest_is_tested() -> None:
    assert {path.stem for path in (DATA / "manifests").glob("*.yaml")} == set(MANIFESTS)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_named_after_its_file(name: str, tmp_path: Path) -> None:
    loaded = manifest(name, tmp_path)
    assert loaded.name == name
    assert loaded.model == ("unet-em-open" if name.startswith("unet-em-open") else BUNDLED_MODEL)


@pytest.mark.parametrize("name", MANIFESTS)
def test_sources_count_from_the_data_root(name: str, tmp_path: Path) -> None:
    for volume in manifest(name, tmp_path).volumes:
        assert volume.source.is_relative_to(tmp_path.resolve())
        assert volume.labels is None or volume.labels.source.is_relative_to(tmp_path.resolve())


def test_campaign_has_two_labelled_and_two_unlabelled_volumes(tmp_path: Path) -> None:
    volumes = {volume.name: volume for volume in manifest("isbi-vnc", tmp_path).volumes}
    labelled = {name: volume.labels.membrane for name, volume in volumes.items() if volume.labels is not None}
    assert set(volumes) == {"isbi", "isbi-test", "stack1", "stack2"}
    assert labelled == {"isbi": "zero", "stack1": "nonzero"}


def test_training_sections_are_the_published_ones(tmp_path: Path) -> None:
    found = {}
    for volume in manifest("unet-em-train", tmp_path).volumes:
        assert volume.split is not None
        assert volume.split.test is not None
        parts = (volume.split.train, volume.split.validation, volume.split.test)
        found[volume.name] = [(part.start, part.stop) for part in parts]
    assert found == {"isbi": [(2, 18), (0, 2), (18, 24)], "stack1": [(0, 6), (6, 7), (7, 10)]}
    for ranges in found.values():
        assert all(before[1] == after[0] for before, after in pairwise(sorted(ranges)))


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_agrees_with_the_registry(name: str, tmp_path: Path) -> None:
    registry = tomllib.loads((DATA / "registry.toml").read_text(encoding="utf-8"))
    known = {
        volume: (folder, facts) for folder, entry in registry.items() for volume, facts in entry["volumes"].items()
    }
    root = tmp_path.resolve()
    for volume in manifest(name, tmp_path).volumes:
        # A volume may be listed twice, so that some of its sections are drawn more often.
        folder, facts = known[volume.name.removesuffix("-late")]
        assert volume.source == root / folder / facts["source"]
        assert list(volume.voxel_nm) == facts["voxel_nm"]
        assert (volume.labels is None) == ("labels" not in facts)
        if volume.labels is not None:
            assert volume.labels.source == root / folder / facts["labels"]
            for key in ("membrane", "border_nm", "zero_means"):
                assert getattr(volume.labels, key) == facts.get(key)
        if volume.split is not None:
            assert (volume.split.test is None) == volume.name.endswith("-late")
            assert (volume.split.test or volume.split.train).stop <= facts["shape"][0]


@pytest.mark.parametrize("name", ["isbi2012", "vnc"])
def test_what_can_be_downloaded_agrees_with_the_registry(name: str) -> None:
    registry = tomllib.loads((DATA / "registry.toml").read_text(encoding="utf-8"))
    chosen = find_set(name)
    known = registry[name]["volumes"]
    assert {volume.name for volume in chosen.volumes} == set(known)
    for volume in chosen.volumes:
        facts = known[volume.name]
        found = (volume.source, volume.labels, volume.membrane, list(chosen.voxel_nm))
        assert found == (facts["source"], facts.get("labels"), facts.get("membrane"), facts["voxel_nm"])


def test_one_manifest_names_all_volumes_of_the_registry(tmp_path: Path) -> None:
    registry = tomllib.loads((DATA / "registry.toml").read_text(encoding="utf-8"))
    volumes = [volume.name for volume in manifest("all", tmp_path).volumes]
    assert sorted(volumes) == sorted(volume for entry in registry.values() for volume in entry["volumes"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_fits_the_real_data(name: str, em_data: Path) -> None:
    for volume in manifest(name, em_data).volumes:
        assert isinstance(volume.source, Path)
        count = sections(volume.source)
        assert count > 0
        if volume.labels is not None:
            assert isinstance(volume.labels.source, Path)
            assert sections(volume.labels.source) == count
        if volume.split is not None and volume.split.test is not None:
            assert volume.split.test.stop <= count
