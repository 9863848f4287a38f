"""Arrays that tensorstore reads, in a folder or below a URL; the formats that are read so have files of their own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from segem.config import Selection, Url
from segem.errors import InputError
from segem.io.readers.chunked import (
    check_chunk,
    check_numeric,
    chunks_of,
    count_chunks,
    guess_section,
    refuse_links,
    settle_unwritten,
    state_offset,
    state_voxel_size,
)
from segem.io.readers.reader import Described, Reader
from segem.io.readers.remote import read_small
from segem.io.readers.stack import check_declared, chunk_indices, damaged, no_damage

PATIENCE_SECONDS = 300
"""How long a server is waited for; until then, tensorstore asks again by itself."""
_LARGEST_METADATA = 4 * 2**20


class ChunkNames(Protocol):
    """How the files of chunks are named, where each chunk has one."""

    def name_of(self, at: tuple[int, ...]) -> str:
        """Return the name of a chunk, by its index."""
        ...

    def index_of(self, name: str) -> tuple[int, ...] | None:
        """Return the index of a chunk, by its name; None where that cannot be one."""
        ...


@dataclass(frozen=True)
class Opening:
    """An array that tensorstore is to open, and what its metadata say.

    Parameters
    ----------
    spec : mapping
        The driver, and options of it.
    root : str
        The folder that the driver opens, counted from the source.
    folder : str
        The folder of the chunks, counted from the source.
    axes, axes_from : str
        A letter for each axis, and who says so.
    sizes_nm, offsets_nm : sequence of float, optional
        Voxel size and place along each axis.
    metadata : mapping
        All that was read of it.
    names : ChunkNames, optional
        How the files of chunks are named; None where chunks share files.
    axes_named : bool
        False where the axes are only those that are usual.
    """

    spec: Mapping[str, Any]
    root: str
    folder: str
    axes: str
    axes_from: str
    sizes_nm: Sequence[float | None] | None
    offsets_nm: Sequence[float | None] | None
    metadata: Mapping[str, Any]
    names: ChunkNames | None
    axes_named: bool = True


class TensorstoreReader(Reader):
    """An array that tensorstore reads.

    Parameters
    ----------
    source : Path or Url
        Where it lies.
    chosen : Selection
        Says what is done about chunks that are missing. Below a URL, and where chunks share files, one is noticed when
        a part is read that it belongs to.
    find : callable
        From source and selection to what is to be opened.

    Raises
    ------
    InputError
        When tensorstore is not installed, the array is missing, damaged or no stack, or chunks of it are missing.
    """

    def __init__(self, source: Path | Url, chosen: Selection, find: Callable[[Path | Url, Selection], Opening]) -> None:
        tensorstore = _import_tensorstore(source)
        if isinstance(source, Path):
            refuse_links(source)
        with no_damage(source):
            opening = find(source, chosen)
            self._name, self._chosen = f"{source}/{opening.folder}".rstrip("/"), chosen
            self._timeout = None if isinstance(source, Path) else PATIENCE_SECONDS
            spec = {**opening.spec, "kvstore": _locate(source, opening.root)}
            # Two of the same array: tensorstore either raises where a chunk is missing, or fills it.
            opened = (
                tensorstore.open({**spec, "fill_missing_data_reads": fills}, open=True, read=True)
                for fills in (False, True)
            )
            from_zero = tensorstore.d[:].translate_to[0]
            self._strict, self._filling = (store.result(self._timeout)[from_zero] for store in opened)
            shape, dtype = tuple(self._strict.shape), np.dtype(self._strict.dtype.numpy_dtype)
            self._chunk = tuple(self._strict.chunk_layout.read_chunk.shape)
            check_numeric(self._name, shape, dtype)
            check_chunk(self._name, self._chunk, dtype, "its metadata")
            if len(opening.axes) != len(shape):
                raise damaged(self._name, f"{len(opening.axes)} axes and shape {shape}")
            check_declared(self._name, guess_section(opening.axes, shape), dtype, 2**62)
            self._counted = isinstance(source, Path) and opening.names is not None
            self._stored: dict[tuple[int, ...], bool] = {}
            sizes, offsets = opening.sizes_nm, opening.offsets_nm
            corrected = chosen.axes is not None and not opening.axes_named and len(chosen.axes) == len(shape)
            # Sizes are in the order of the axes, whatever these are called.
            axes = chosen.axes if corrected and chosen.axes is not None else opening.axes
            found = Described(
                shape,
                dtype,
                opening.axes,
                opening.axes_from,
                chunk=self._chunk,
                voxel=None if sizes is None else state_voxel_size(axes, sizes, "its metadata"),
                offset_nm=None if offsets is None else state_offset(axes, offsets),
                digest=hashlib.sha256(json.dumps(opening.metadata, sort_keys=True).encode()).hexdigest(),
                warnings=self._count_files(source, opening) if isinstance(source, Path) else (),
                axes_named=opening.axes_named,
            )
        super().__init__(source, found)

    def label_of(self, z: int) -> str:
        """Return the array and the index of a section."""
        return f"{self._name}[{z}]"

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array."""
        with no_damage(self._name):
            voxels = self._read(self._strict, part)
            if not self._counted:
                self._note(part, whole=voxels is not None)
            return np.asarray(self._filling[part].read().result(self._timeout)) if voxels is None else voxels

    def _count_files(self, source: Path, opening: Opening) -> tuple[str, ...]:
        """Count the files of chunks, and return what the user should know about those missing."""
        names, folder = opening.names, source / opening.folder
        if names is None:
            return ()
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if any(name.endswith(".gz") for name in files):
            raise InputError(
                "its chunks are packed as files that end in .gz, which is left to web servers to unpack",
                where=folder,
                fix="unpack them (gunzip -r FOLDER)",
            )
        counts = count_chunks(self._strict.shape, self._chunk)
        present = {
            at
            for name in files
            if (at := names.index_of(name)) is not None
            and all(0 <= i < n for i, n in zip(at, counts, strict=True))
            and names.name_of(at) == name
        }
        # Counted by the files: damaged metadata can declare any number of chunks.
        total, first = math.prod(counts), None
        if len(present) < total:
            first = next(names.name_of(at) for at in chunk_indices(counts) if at not in present)
        return self._settle(total - len(present), total, first)

    def _note(self, part: tuple[slice, ...], *, whole: bool) -> None:
        """Note which chunks of a part are stored; each is read by itself where not all of them are."""
        shape = self._strict.shape
        for at in product(*chunks_of(part, self._chunk)):
            if at not in self._stored:
                box = tuple(
                    slice(i * edge, min((i + 1) * edge, n)) for i, edge, n in zip(at, self._chunk, shape, strict=True)
                )
                self._stored[at] = whole or self._read(self._strict, box) is not None
        absent = [at for at, stored in self._stored.items() if not stored]
        told = self._settle(len(absent), len(self._stored), f"chunk {absent[0]}" if absent else None)
        self.found = replace(self.found, warnings=told)

    def _read(self, store: Any, part: tuple[slice, ...]) -> NDArray[Any] | None:
        """Read a part of an array; None where chunks of it are missing."""
        try:
            return np.asarray(store[part].read().result(self._timeout))
        except ValueError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def _settle(self, missing: int, total: int, first: object) -> tuple[str, ...]:
        fill = self._strict.fill_value
        return settle_unwritten(
            self._name,
            missing=missing,
            total=total,
            first=first,
            fill=0 if fill is None else fill,
            chosen=self._chosen,
        )


def _import_tensorstore(source: object) -> Any:
    try:
        import tensorstore
    except ImportError:
        raise InputError(
            "N5 and Neuroglancer's precomputed volumes are read by tensorstore, which is not installed",
            where=source,
            fix="pip install segem[n5]",
        ) from None
    return tensorstore


def _locate(source: Path | Url, folder: str) -> dict[str, Any]:
    """Return where tensorstore finds a folder; public places alone, so no credentials are looked for."""
    if isinstance(source, Path):
        return {"driver": "file", "path": f"{(source / folder).resolve()}/"}
    parts = urlsplit(source)
    path = str(PurePosixPath(parts.path.lstrip("/")) / folder) + "/"
    if parts.scheme == "s3":
        return {"driver": "s3", "bucket": parts.netloc, "path": path, "aws_credentials": {"type": "anonymous"}}
    if parts.scheme == "gs":
        # Not by tensorstore's own driver for it, which takes the credentials that it finds.
        return {"driver": "http", "base_url": "https://storage.googleapis.com", "path": f"/{parts.netloc}/{path}"}
    return {"driver": "http", "base_url": f"{parts.scheme}://{parts.netloc}", "path": f"/{path}"}


def read_json(source: Path | Url, name: str) -> dict[str, Any] | None:
    """Return a file of metadata below a source; None where there is none.

    Raises
    ------
    InputError
        When it is no mapping, or too long.
    """
    if isinstance(source, Url):
        content = read_small(source, name).get(name)
    else:
        path = source / name
        if path.is_file() and path.stat().st_size > _LARGEST_METADATA:
            raise damaged(path, f"{path.stat().st_size} bytes of metadata")
        content = path.read_bytes() if path.is_file() else None
    if content is None:
        return None
    with no_damage(f"{source}/{name}"):
        values = json.loads(content)
        if not isinstance(values, dict):
            raise damaged(f"{source}/{name}", f"{type(values).__name__} instead of a mapping")
        return values


def check_below(source: object, folder: str) -> str:
    """Return a folder below a source, as it was named.

    Raises
    ------
    InputError
        When it leads out of the source.
    """
    path = PurePosixPath(folder.strip("/"))
    if ".." in path.parts:
        raise InputError("a path that leads out of the source", where=source, found=folder, fix="correct --dataset")
    return "" if path == PurePosixPath() else str(path)
