"""Neuroglancer's precomputed volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segem.config import Selection, Url
from segem.errors import InputError
from segem.io.readers.chunked import read_numbers
from segem.io.readers.stack import damaged, no_damage
from segem.io.readers.tensorstore_array import Opening, TensorstoreReader, check_below, read_json

MARKER = "info"
_TYPE = "neuroglancer_multiscale_volume"
_CHUNK_NAME = re.compile("_".join([r"(-?\d{1,18})-{1,2}\d{1,18}"] * 3), re.ASCII)


class PrecomputedReader(TensorstoreReader):
    """A scale of a precomputed volume, its axes x, y, z, channel.

    Parameters
    ----------
    source : Path or Url
        The folder of its file ``info``.
    chosen : Selection
        Names a scale by its key, as 8_8_40; the first, which is the finest, where it names none.

    Raises
    ------
    InputError
        As `TensorstoreReader`.
    """

    def __init__(self, source: Path | Url, chosen: Selection) -> None:
        super().__init__(source, chosen, _find)


def is_precomputed(source: Path) -> bool:
    """Return whether a folder is a precomputed volume."""
    path = source / MARKER
    if not path.is_file():
        return False
    # A folder of sections may hold notes of that name.
    with path.open("rb") as file:
        return file.read(1) == b"{"


def _find(source: Path | Url, chosen: Selection) -> Opening:
    info = read_json(source, MARKER)
    where = f"{source}/{MARKER}"
    if info is None or info.get("@type", _TYPE) != _TYPE:
        raise InputError(
            "not a volume of Neuroglancer",
            where=where,
            expected=_TYPE,
            found=(info or {}).get("@type"),
            fix="check the path",
        )
    with no_damage(where):
        keys = [str(scale["key"]) for scale in info["scales"]]
        wanted = keys[0] if chosen.dataset is None else chosen.dataset.strip("/")
        if wanted not in keys:
            raise InputError(
                f"no scale named {wanted}",
                where=where,
                found=f"scales: {', '.join(keys[:10])}",
                fix="correct --dataset",
            )
        number = keys.index(wanted)
        scale = info["scales"][number]
        sizes, voxels = read_numbers(scale["resolution"], 3), read_numbers(scale.get("voxel_offset", [0, 0, 0]), 3)
        if sizes is None or voxels is None:
            raise damaged(where, f"resolution {scale['resolution']}, voxel_offset {scale.get('voxel_offset')}")
        return Opening(
            spec={"driver": "neuroglancer_precomputed", "scale_index": number},
            root="",
            folder=check_below(source, wanted),
            axes="xyzc",
            axes_from="the order of Neuroglancer",
            sizes_nm=[*sizes, None],
            offsets_nm=[*(a * b for a, b in zip(sizes, voxels, strict=True)), None],
            metadata={**scale, "type": info.get("data_type")},
            names=None if scale.get("sharding") else _ChunkNames(scale),
        )


class _ChunkNames:
    """Names chunks by their first voxel and the one past the last, along x, y and z."""

    def __init__(self, scale: Mapping[str, Any]) -> None:
        self._start = [int(n) for n in scale.get("voxel_offset", [0, 0, 0])]
        self._size = [int(n) for n in scale["size"]]
        # Those of other sizes hold the same voxels; tensorstore reads the first.
        self._chunk = [int(n) for n in scale["chunk_sizes"][0]]

    def name_of(self, at: tuple[int, ...]) -> str:
        ranges = []
        for i, start, size, edge in zip(at[:3], self._start, self._size, self._chunk, strict=True):
            ranges.append(f"{start + i * edge}-{start + min((i + 1) * edge, size)}")
        return "_".join(ranges)

    def index_of(self, name: str) -> tuple[int, ...] | None:
        found = _CHUNK_NAME.fullmatch(name)
        if found is None:
            return None
        first = zip(map(int, found.groups()), self._start, self._chunk, strict=True)
        # All channels lie in one chunk.
        return (*((begin - start) // edge for begin, start, edge in first), 0)
