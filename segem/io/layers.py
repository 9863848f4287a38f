"""The layers of one volume of a run, for readers who must not mistake a lost file for background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from segem.errors import InputError, WorkspaceError
from segem.geometry import Box
from segem.io.blocks import read_block
from segem.io.shards import Array, files_of, missing_shards, shape_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace


@dataclass(frozen=True)
class Layers:
    """The arrays of one volume that scores and pictures need; absent ones are None."""

    source: Volume
    truth: Array | None
    probability: Array | None
    membrane: Array | None
    baseline: Array | None
    closed: Array | None = None
    truth_ids: Array | None = None
    """The numbers of the cells, where the truth was given so; 0 outside of cells."""
    second: Array | None = None
    """What a second person labelled."""

    @classmethod
    def open(
        cls, run: str, volume: str, workspace: Workspace, *, segmented: bool, clustered: bool, divided: bool = False
    ) -> Layers:
        """Open the layers that should be there, and check that none of their files is missing.

        Raises
        ------
        SegemError
            When a volume or a file of a layer is missing.
        """
        source = Volume.open(workspace.volume(volume))
        result = Volume.open(workspace.result(run, volume)) if segmented or clustered else None
        # The source may have been ingested anew, with other sections, since the run was made.
        if result is not None and result.shape != source.shape:
            raise InputError(
                "the volume has changed since the run",
                where=volume,
                expected=result.shape,
                found=source.shape,
                fix="run again",
            )
        layers = cls(
            source,
            source.label("truth") if source.has_label("truth") else None,
            result.raw if result is not None and segmented else None,
            result.label("membrane") if result is not None and segmented else None,
            result.label("baseline") if result is not None and clustered else None,
            result.label("membrane-closed") if result is not None and divided else None,
            source.label("truth-ids") if source.has_label("truth-ids") else None,
            source.label("truth-second") if source.has_label("truth-second") else None,
        )
        require_whole(source.raw, f"run `segem ingest` for {volume} with --again")
        labels = (layers.truth, layers.membrane, layers.baseline, layers.closed, layers.truth_ids, layers.second)
        for array in (layers.probability, *labels):
            if array is not None:
                require_whole(array, f"see `segem verify {run}`, then run again")
        return layers


def layer_of(result: Volume, name: str) -> Array:
    """Return a layer of a result by its name: ``probability`` is the image itself, the others are its labels.

    Raises
    ------
    InputError
        When there is no such label.
    """
    label = label_of(name)
    return result.raw if label is None else result.label(label)


def layers_of(result: Volume, names: tuple[str, ...]) -> tuple[Array, ...]:
    """Return several layers of a result, see `layer_of`."""
    return tuple(layer_of(result, name) for name in names)


def label_of(name: str) -> str | None:
    """Return the name of the label that holds a layer; None for the image itself."""
    return None if name == "probability" else name


def require_whole(array: Array, fix: str) -> None:
    """Raise if a file of an array is missing; zarr itself would read it as zeros.

    Parameters
    ----------
    array : Array
        Any layer of a volume.
    fix : str
        How to make the layer again, for the message.

    Raises
    ------
    WorkspaceError
        Naming how many files are missing.
    """
    # Every shard has a file, even one of zeros (see `write_block`), so a file that is absent is a loss.
    missing = missing_shards(array)
    if missing:
        where = files_of(array).name(missing[0])
        what = "a block is missing" if len(missing) == 1 else f"{len(missing)} blocks are missing"
        raise WorkspaceError(what, where=where, fix=fix)


def read_section(array: Array, z: int, fix: str = "run `segem verify` to see the extent") -> NDArray[Any]:
    """Return section `z` of an array, shape (y, x); `fix` says how to make the array again, for the message.

    Raises
    ------
    WorkspaceError
        When a file is missing or what is on disk does not decode, for example because a bit flipped.
    """
    _, height, width = shape_of(array)
    box = Box((z, 0, 0), (z + 1, height, width))
    return read_block(array, box, fix).reshape(height, width)
