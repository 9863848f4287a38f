"""OME-Zarr and plain zarr: axes, voxel size and place by what the metadata say."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr

from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.voxel_size import settle_voxel_size
from tests.unit.io.readers.sources import opened, read, refused

DATA = np.random.default_rng(0).integers(1, 256, (5, 20, 30), np.uint8)


def write_image(
    path: Path,
    data: np.ndarray,
    axes: list[Any] | None,
    *,
    version: str = "0.5",
    datasets: list[dict] | None = None,
    **image: Any,
) -> Path:
    """Write an OME-Zarr image by zarr alone, as its version of the format has it."""
    group = zarr.open_group(str(path), mode="a", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=data, chunks=data.shape)
    named = {} if axes is None else {"axes": axes}
    multiscale = {**named, "datasets": datasets or [{"path": "0"}], **image}
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{"version": version, **multiscale}]
    return path


def named(letters: str, unit: str | None = None) -> list[dict]:
    kinds = {"c": "channel", "t": "time"}
    return [
        {"name": name, "type": kinds.get(name, "space"), **({"unit": unit} if unit and name not in kinds else {})}
        for name in letters
    ]


def scaled(*scale: float, path: str = "0", translation: tuple[float, ...] = ()) -> dict:
    moved = [{"type": "translation", "translation": list(translation)}] if translation else []
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": list(scale)}, *moved]}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "order"),
    [("zyx", (0, 1, 2)), ("xyz", (2, 1, 0)), ("yxz", (1, 2, 0)), ("cxyz", (2, 1, 0)), ("tczyx", (0, 1, 2))],
)
def test_axes_are_found_by_their_names(tmp_path: Path, version: str, axes: str, order: tuple[int, ...]) -> None:
    data = DATA.transpose(order).reshape((1,) * (len(axes) - 3) + tuple(DATA.shape[axis] for axis in order))
    path = write_image(tmp_path / "a.zarr", data, named(axes), version=version)
    with opened(path) as stack:
        assert stack.axes_from == "the names in its OME metadata"
    assert np.array_equal(read(path), DATA)


def test_names_in_capitals_and_in_words(tmp_path: Path) -> None:
    axes = [{"name": "channel", "type": "channel"}, *({"name": name, "type": "space"} for name in "ZYX")]
    assert np.array_equal(read(write_image(tmp_path / "a", DATA[None], axes)), DATA)
    foreign = [{"name": name, "type": "space"} for name in ("depth", "height", "width")]
    told = refused(write_image(tmp_path / "b", DATA, foreign))
    assert "the names of the axes are not understood; found axes depth: 5, height: 20, width: 30" in told
    assert "say what the axes are by --axes, as in zyx" in told
    assert np.array_equal(read(tmp_path / "b", axes="zyx"), DATA)


def test_channels_are_asked_for(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a", np.stack([DATA, 255 - DATA]), named("czyx"))
    assert "2 channels" in refused(path)
    assert np.array_equal(read(path, channel=1), 255 - DATA)


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [
        ("nanometer", (50, 4, 4.6), (50, 4, 4.6)),
        ("micrometer", (0.05, 0.004, 0.0046), (50, 4, 4.6)),
        ("angstrom", (500, 40, 46), (50, 4, 4.6)),
        ("millimeter", (5e-5, 4e-6, 4.6e-6), (50, 4, 4.6)),
        ("meter", (5e-8, 4e-9, 4.6e-9), (50, 4, 4.6)),
    ],
)
def test_the_voxel_size_by_its_unit(tmp_path: Path, unit: str, scale: tuple, expected: tuple) -> None:
    with opened(write_image(tmp_path / "a", DATA, named("zyx", unit), datasets=[scaled(*scale)])) as stack:
        voxel = stack.found.voxel
    assert voxel is not None
    assert (voxel.z_nm, voxel.y_nm, voxel.x_nm) == pytest.approx(expected)
    assert voxel.origin == "its OME metadata"


def test_the_voxel_size_goes_with_the_names_of_the_axes(tmp_path: Path) -> None:
    data = DATA.transpose(2, 1, 0)[None]
    path = write_image(tmp_path / "a", data, named("cxyz", "nanometer"), datasets=[scaled(1, 4.6, 4, 50)])
    with opened(path) as stack:
        assert stack.found.voxel == StatedVoxelSize(50.0, 4.0, 4.6, "its OME metadata")


def test_a_scale_without_a_unit_is_no_voxel_size(tmp_path: Path) -> None:
    with opened(write_image(tmp_path / "a", DATA, named("zyx"), datasets=[scaled(50, 4, 4)])) as stack:
        assert stack.found.voxel is None
        assert stack.found.unitless == "50 along z, 4 along y, 4 along x"
        with pytest.raises(InputError, match="found 50 along z, 4 along y, 4 along x, without a unit"):
            settle_voxel_size(None, None, trusted=False, where=stack.source, unitless=stack.found.unitless)
    # A scale that is left at 1 says nothing.
    with opened(write_image(tmp_path / "c", DATA, named("zyx"), datasets=[scaled(1, 1, 1)])) as stack:
        assert stack.found.unitless == ""
    other = write_image(tmp_path / "b", DATA, named("zyx", "parsec"), datasets=[scaled(50, 4, 4)])
    with opened(other) as stack:
        assert stack.found.voxel is None


def test_the_transformations_of_dataset_and_image_are_chained(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "a",
        DATA,
        named("zyx", "nanometer"),
        datasets=[scaled(50, 2, 2, translation=(100, 10, 20))],
        coordinateTransformations=[
            {"type": "scale", "scale": [1, 2, 2]},
            {"type": "translation", "translation": [0, 1, 2]},
        ],
    )
    with opened(path) as stack:
        # 2 nm by the dataset, twice that by the image; the place is scaled with it, then moved.
        assert stack.found.voxel == StatedVoxelSize(50.0, 4.0, 4.0, "its OME metadata")
        assert stack.found.offset_nm == (100.0, 21.0, 42.0)


def test_the_first_dataset_is_the_finest(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "a",
        DATA,
        named("zyx"),
        datasets=[scaled(50, 4, 4), scaled(50, 8, 8, path="1")],
    )
    zarr.open_group(str(path)).create_array("1", data=DATA[:, ::2, ::2])
    assert np.array_equal(read(path), DATA)
    path = write_image(tmp_path / "b", DATA, named("zyx"), datasets=[scaled(50, 8, 8), scaled(50, 4, 4, path="1")])
    assert "dataset 0 comes first, and 1 is finer" in refused(path)


@pytest.mark.parametrize("version", ["0.1", "0.5"])
def test_without_scales_the_finest_array_is_the_largest(tmp_path: Path, version: str) -> None:
    axes = None if version == "0.1" else named("zyx")
    data = DATA[None, None] if version == "0.1" else DATA
    # The third was not copied, and has no say.
    datasets = [{"path": "0"}, {"path": "1"}, {"path": "2"}]
    path = write_image(tmp_path / "a", data, axes, version=version, datasets=datasets)
    zarr.open_group(str(path)).create_array("1", data=data[..., ::2, ::2])
    assert np.array_equal(read(path), DATA)
    path = write_image(tmp_path / "b", data[..., ::2, ::2], axes, version=version, datasets=datasets)
    zarr.open_group(str(path)).create_array("1", data=data)
    assert "dataset 0 comes first, and 1 is finer" in refused(path)


@pytest.mark.parametrize("version", ["0.1", "0.3"])
def test_early_versions(tmp_path: Path, version: str) -> None:
    axes = None if version == "0.1" else list("tczyx")
    path = write_image(tmp_path / "a", DATA[None, None], axes, version=version)
    assert np.array_equal(read(path), DATA)


def test_the_folders_of_bioformats2raw(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "a"), mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    root.create_group("OME")
    write_image(tmp_path / "a" / "0", DATA[None, None], named("tczyx"), version="0.4", name="overview")
    assert np.array_equal(read(tmp_path / "a"), DATA)
    write_image(tmp_path / "a" / "1", 255 - DATA[None, None], named("tczyx"), version="0.4")
    told = refused(tmp_path / "a")
    assert "which array is meant?" in told
    assert "found stacks: 0 (image overview), 1 (image)" in told
    assert np.array_equal(read(tmp_path / "a", dataset="1"), 255 - DATA)


def test_a_plate_is_no_image(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "a"), mode="w")
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    write_image(tmp_path / "a" / "A" / "1" / "0", DATA, named("zyx"))
    assert "a plate of many wells, and not one image. Fix: name one by --dataset, as A/1/0" in refused(tmp_path / "a")
    assert np.array_equal(read(tmp_path / "a", dataset="A/1/0"), DATA)


def test_labels_beside_an_image_are_named(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a", DATA, named("zyx"))
    write_image(path / "labels" / "cells", DATA.astype(np.uint32) + 7, named("zyx"))
    zarr.open_group(str(path / "labels")).attrs["ome"] = {"labels": ["cells"]}
    assert np.array_equal(read(path), DATA)
    assert np.array_equal(read(path, dataset="labels/cells"), DATA.astype(np.uint32) + 7)
    assert np.array_equal(read(path, dataset="labels"), DATA.astype(np.uint32) + 7)


def test_several_images_in_one_group(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a", DATA, named("zyx"))
    group = zarr.open_group(str(path))
    group.create_array("other", data=DATA)
    ome: Any = group.attrs["ome"]
    (first,) = ome["multiscales"]
    group.attrs["ome"] = {"multiscales": [first, {**first, "datasets": [{"path": "other"}]}]}
    assert "2 images in one group; expected one, found arrays: 0, other" in refused(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_names_of_the_dimensions_of_a_plain_array(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    data = DATA.transpose(2, 1, 0)

    def write(name: str, names: list[str | None]) -> Path:
        if zarr_format == 3:
            zarr.create_array(str(tmp_path / name), data=data, dimension_names=names)
        else:
            array = zarr.create_array(str(tmp_path / name), data=data, zarr_format=2)
            array.attrs["_ARRAY_DIMENSIONS"] = names
        return tmp_path / name

    assert np.array_equal(read(write("a", ["x", "y", "z"])), DATA)
    assert np.array_equal(read(write("b", ["dim_0", "dim_1", "dim_2"])), data)
    assert "are not understood; found axes x: 30, y: 20, angle: 5" in refused(write("c", ["x", "y", "angle"]))
    assert np.array_equal(read(write("d", ["x", "y", "angle"]), axes="xyz"), DATA)


def test_chunks_of_a_shard_that_were_never_written(tmp_path: Path) -> None:
    array = zarr.create_array(
        str(tmp_path / "a"), shape=(4, 20, 30), dtype=np.uint8, chunks=(1, 20, 30), shards=(2, 20, 30), fill_value=7
    )
    array[0] = array[2] = array[3] = DATA[0]
    told = refused(tmp_path / "a")
    assert "1 of 4 chunks are missing; found the first missing one is in the shard c/0/0/0" in told
    with opened(tmp_path / "a", unwritten="fill") as stack:
        assert np.array_equal(stack.section(1), np.full((20, 30), 7))
        assert stack.warnings == (
            f"{tmp_path}/a: 1 of 4 chunks (25.0%) were never written, and are taken for their fill value 7",
        )


def test_a_shard_at_the_edge_needs_only_the_chunks_within_the_array(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA, chunks=(1, 8, 8), shards=(4, 16, 16))
    assert np.array_equal(read(tmp_path / "a"), DATA)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_is_decoded_once_where_slabs_follow_the_chunks(
    tmp_path: Path, zarr_format: Literal[2, 3], monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA, chunks=(2, 20, 30), zarr_format=zarr_format)
    decoded = []
    codec = zarr.codecs.ZstdCodec if zarr_format == 3 else zarr.codecs._v2.V2Codec
    decode = codec._decode_single

    async def count(self, *args):
        decoded.append(1)
        return await decode(self, *args)

    monkeypatch.setattr(codec, "_decode_single", count)
    with opened(tmp_path / "a") as stack:
        assert stack.chunk == (2, 20, 30)
        for z in range(0, 5, 2):
            assert np.array_equal(stack.read(Box((z, 0, 0), (min(z + 2, 5), 20, 30))), DATA[z : z + 2])
        assert len(decoded) == 3
        stack.section(0), stack.section(1)
        assert len(decoded) == 5


def test_the_chunk_is_named_in_the_order_of_the_stack(tmp_path: Path) -> None:
    array = zarr.create_array(
        str(tmp_path / "a"), data=DATA.transpose(2, 1, 0)[None], chunks=(1, 10, 20, 2), dimension_names=list("cxyz")
    )
    assert array.chunks == (1, 10, 20, 2)
    with opened(tmp_path / "a") as stack:
        assert stack.chunk == (2, 20, 10)


@pytest.mark.parametrize(
    "changed",
    [
        {"filters": [{"id": "pickle", "protocol": 4}]},
        {"compressor": {"id": "pickle", "protocol": 4}},
        {"dtype": "|O", "fill_value": None, "filters": [{"id": "pickle", "protocol": 4}]},
    ],
)
def test_what_would_run_code_is_never_decoded(tmp_path: Path, changed: dict) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA, zarr_format=2, compressors=None)
    metadata = tmp_path / "a" / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | changed))
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return Path.touch, (ran,)

    for chunk in (tmp_path / "a").glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Trap()))
    # zarr itself takes it for an array of objects, of which it reads none.
    assert "the file is damaged" in refused(tmp_path / "a")
    assert not ran.exists()


@pytest.mark.parametrize(("names", "said"), [(("plane", "row", "col"), True), (("dim_0", "dim_1", "dim_2"), False)])
def test_names_of_dimensions_that_say_nothing_are_told(tmp_path: Path, names: tuple[str, ...], said: bool) -> None:
    zarr.create_array(str(tmp_path / "a"), data=DATA, chunks=DATA.shape, dimension_names=names)
    told = "its axes are called plane, row, col, which says nothing to segem, and are taken for z, y, x"
    with opened(tmp_path / "a") as stack:
        assert any(told in warning for warning in stack.warnings) == said
    with opened(tmp_path / "a", axes="zyx") as stack:
        assert stack.warnings == ()
