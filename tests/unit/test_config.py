"""Configurations refuse what they do not know, and hash by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from segem.cli.options import Options
from segem.config import (
    BaselineConfig,
    Config,
    ExecutionConfig,
    IngestConfig,
    LabelSource,
    Manifest,
    RefineConfig,
    SegmentConfig,
    Split,
    TrainConfig,
    check_name,
    load_manifest,
    parse,
)
from segem.errors import ConfigError

VOLUME = {"name": "a", "source": "a.tif", "voxel_nm": [50, 4, 4]}
SPLIT = (
    "name: m\nvolumes:\n  - {{name: a, source: a, voxel_nm: [50, 4, 4], split: {{train: {}, validation: [4, 5]}}}}\n"
)


def test_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown key sigma"):
        parse(BaselineConfig, {"sigma": 2})


def test_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="key source is missing"):
        parse(IngestConfig, {"name": "a", "voxel_nm": [50, 4, 4]})


def test_wrong_value_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"overlap.*found 1\.5"):
        parse(SegmentConfig, {"overlap": 1.5})


def test_hash_depends_on_content_only() -> None:
    assert SegmentConfig(model="m").config_hash() == SegmentConfig(model="m", overlap=0.5).config_hash()
    assert SegmentConfig(model="m").config_hash() != SegmentConfig(model="n").config_hash()


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "-x", "x" * 101])
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name, "volume")


def test_what_is_too_long_to_be_shown_whole_is_not_shown_in_part() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Manifest, {"name": "m", "volumes": [VOLUME, VOLUME]})
    assert "found" not in str(caught.value)


def test_volume_names_must_differ_even_by_case() -> None:
    with pytest.raises(ConfigError, match="must differ"):
        parse(Manifest, {"name": "m", "volumes": [VOLUME, VOLUME | {"name": "A"}]})


def test_splits_must_not_overlap() -> None:
    with pytest.raises(ConfigError, match="overlap at section 15"):
        parse(Split, {"train": [0, 16], "validation": [15, 18]})


def test_training_needs_exactly_one_budget() -> None:
    with pytest.raises(ConfigError, match="either minutes or steps"):
        parse(TrainConfig, {})
    assert parse(TrainConfig, {"steps": 3}).steps == 3


def test_a_stack_in_place_of_a_manifest_is_told(tmp_path: Path) -> None:
    file = tmp_path / "stack.tif"
    file.write_bytes(b"II*\x00\xd0\x00")
    with pytest.raises(ConfigError, match=r"stack\.tif: not a manifest.*begin with `segem ingest`"):
        load_manifest(file)


def test_manifest_sources_count_from_its_folder_or_the_data_root(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("name: m\nvolumes:\n  - {name: a, source: d/a.tif, voxel_nm: [50, 4, 4]}\n")
    assert load_manifest(file).volumes[0].source == tmp_path / "d" / "a.tif"
    assert load_manifest(file, tmp_path / "root").volumes[0].source == tmp_path / "root" / "d" / "a.tif"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "not a manifest"),
        ("name: [", "not readable as YAML"),
        ("name: m\nvolumes: []\n", "volumes"),
        ("name: m\nvolumes:\n  - {name: a, source: a, voxel_nm: [0, 4, 4]}\n", "positive number of nanometres"),
        ("name: m\nwhen: !!timestamp 2026-13-45\n", "not readable as YAML"),
        ("[" * 5000, "not readable as YAML"),
        ("name: m\n1: 2\nvolumes:\n  - {name: a, source: a, voxel_nm: [50, 4, 4]}\n", "1: Keys should be strings"),
        ("name: m\nvolumes:\n  - {name: a, source: a, voxel_nm: [50, 4, 4], 2: b}\n", "Keys should be strings"),
        (SPLIT.format("0-3"), r"train: sections must be given as \[first, one past the last\]; found '0-3'"),
        (SPLIT.format([0, 0]), r"train: sections must be given as \[first, one past the last\], found \[0, 0\]"),
        (
            "name: m\nspeed: 3\nvolumes:\n  - {name: a, source: a, voxel_nm: [50, 4, 4]}\n",
            "unknown key speed. Fix: keys there are name, model, volumes,",
        ),
        (
            "name: m\nvolume:\n  - {name: a, source: a}\n",
            "unknown key volume. Fix: keys there are name, model, volumes,",
        ),
        (
            "name: m\nvolumes:\n  - {name: a, source: a, voxel_nm: [50, 4, 4], splitt: {}}\n",
            "unknown key volumes.0.splitt. Fix: keys there are .*name, source, voxel_nm, .*labels, .*split",
        ),
        (
            "name: m\nvolumes:\n  - {name: a, source: a, voxel_nm: [50, 4, 4], "
            "labels: {source: b, membrane: zero, ignor: 3}}\n",
            "unknown key volumes.0.labels.ignor. Fix: keys there are .*source, membrane, .*ignore",
        ),
    ],
)
def test_bad_manifests_are_refused_with_the_file_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_manifest(file)
    assert "m.yaml" in str(caught.value)


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such manifest; found a folder\. Fix: give the path of a YAML file"):
        load_manifest(tmp_path)


def test_a_manifest_that_cannot_be_read_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "m.yaml").write_text("name: m\n")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"m\.yaml: the manifest cannot be read; found Permission denied\. Fix: "):
        load_manifest(tmp_path / "m.yaml")


def test_a_manifest_names_its_model_once() -> None:
    values = {"name": "m", "volumes": [VOLUME]}
    with pytest.raises(ConfigError, match=r"segment: a manifest names its model once, at the top"):
        parse(Manifest, values | {"segment": {"model": "mine"}})
    with pytest.raises(ConfigError, match="at the top"):
        parse(Manifest, values | {"model": "mine", "segment": SegmentConfig(model="mine")})
    manifest = parse(Manifest, values | {"model": "mine", "segment": {"tile_px": 64}})
    assert manifest.segment_config() == SegmentConfig(model="mine", tile_px=64)
    assert Manifest.model_validate(manifest.model_dump(mode="json")) == manifest


@pytest.mark.parametrize(
    ("given", "reason"),
    [("500MB", "a process needs 1GB or more"), ("much", "as in 2GB"), ("2 MBB", "as in 2GB"), (7, "1GB or more")],
)
def test_memory_that_cannot_be_meant_is_refused(given: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse(ExecutionConfig, {"memory": given})


def test_memory_is_given_in_any_unit() -> None:
    assert [parse(ExecutionConfig, {"memory": m}).memory for m in ("2GB", "2000MB", 2 * 10**9, None)] == [
        2 * 10**9,
        2 * 10**9,
        2 * 10**9,
        None,
    ]


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (SegmentConfig, {"tile_px": 3}, "w: --tile-px: must be greater than or equal to 16; found 3. Fix: "),
        (TrainConfig, {"minutes": 1, "steps": 1}, "w: give either minutes or steps. Fix: change one of these settings"),
        (
            Split,
            {"train": [0, 1], "validation": [1, 2], "weight": "inf"},
            "w: --weight: must be a finite number",
        ),
        (TrainConfig, {"minutes": "inf"}, "w: --minutes: must be a finite number; found 'inf'"),
        (RefineConfig, {"of": "../r"}, "w: --of: not a name, use letters, digits"),
        (
            LabelSource,
            {"source": "a", "membrane": "all"},
            "w: --membrane: must be zero, nonzero, borders, a whole number or several of them, as 0,32,64; found "
            "'all'. Fix: correct --membrane (Which values mean membrane: zero, nonzero, one value, or several as ",
        ),
    ],
)
def test_a_wrong_value_is_told_by_its_option(kind: type[Config], values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(kind, values, where="w", called=Options({"": tuple(kind.model_fields)}).named)
    assert str(caught.value).startswith(said)
    assert "Config" not in str(caught.value)


def test_a_wrong_value_deep_in_a_manifest_is_told_with_what_it_means() -> None:
    entry = {"name": "v", "source": "a.tif", "voxel_nm": ["fifty", 4, 4], "labels": None}
    with pytest.raises(ConfigError) as caught:
        parse(Manifest, {"name": "m", "volumes": [entry]}, where="m.yaml")
    said = "m.yaml: volumes.0.voxel_nm.0: must be a number; found 'fifty'. Fix: correct volumes.0.voxel_nm.0 "
    assert str(caught.value).startswith(f"{said}(Voxel size in nanometres along (z, y, x); not needed where")
