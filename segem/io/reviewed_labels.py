"""What people have reviewed of a run, as labels: membrane and background in their regions, unknown everywhere else."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import ConfigError
from segem.geometry import Range, name_sections
from segem.io.reviewed import (
    has_log,
    open_log,
    open_mask,
    reader_of,
    require_reviewed_mask,
    trusted_places,
    verify_review,
)
from segem.io.run import load_run
from segem.io.seen import compute_digests
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.truth import UNKNOWN
from segem.records.review import SHEET, WORK, Head, Place, ReviewedLabels

Regions = dict[Place, NDArray[np.bool_]]
"""The corrected mask of each region that people say is right."""


class ReviewedVolume(Volume):
    """A volume of which those regions are known that people have accepted or fixed in the review of a run.

    Parameters
    ----------
    path : Path
        Folder of the image.
    origin : ReviewedLabels
        Where the labels are from.
    regions : dict of Place to (y, x) bool
        The mask of each region; at least one.
    part : str
        Added to the name.
    """

    def __init__(self, path: Path, origin: ReviewedLabels, regions: Regions, part: str = "") -> None:
        super().__init__(path)
        self.origin = origin
        self.regions = regions
        self._part = part

    def __reduce__(self) -> tuple[Any, ...]:
        return (ReviewedVolume, (self.path, self.origin, self.regions, self._part))

    @property
    def name(self) -> str:
        """Name of the volume, and of the run in which it was reviewed: a manifest may list the same volume."""
        return f"{super().name} of {self.origin.run}{self._part}"

    def part(self, sections: Range) -> ReviewedVolume:
        """Return the volume with the regions of some sections alone, named by them."""
        first, stop = sections
        regions = {place: mask for place, mask in self.regions.items() if first <= place.z < stop}
        return ReviewedVolume(self.path, self.origin, regions, f", {name_sections([sections])}")

    @property
    def attributes(self) -> dict[str, Any]:
        """Facts about the volume; with the digests of reviewed sections where it was ingested without labels."""
        noted = super().attributes
        return noted if "section_digests" in noted else noted | {"section_digests": self._section_digests}

    def reviewed_sections(self, sections: Range | None = None) -> list[int]:
        """Return the sections that hold regions, in order; those of a range alone where one is given."""
        first, stop = sections or (0, self.shape[0])
        return sorted({place.z for place in self.regions if first <= place.z < stop})

    def truth(self, z: int) -> NDArray[np.uint8]:
        """Return the labels of a section, (y, x): 1 is membrane, `UNKNOWN` outside of all regions."""
        truth = np.full(self.shape[1:], UNKNOWN, np.uint8)
        for place, mask in self.regions.items():
            if place.z == z:
                truth[place.y : place.y + place.height, place.x : place.x + place.width] = mask
        return truth

    def find_window(self, z: int, around_px: int) -> tuple[slice, slice]:
        """Return the rows and columns that hold all regions of a section, and some tissue around them."""
        _, height, width = self.shape
        places = [place for place in self.regions if place.z == z]
        top, left = min(one.y for one in places), min(one.x for one in places)
        bottom, right = max(one.y + one.height for one in places), max(one.x + one.width for one in places)
        return (
            slice(max(0, top - around_px), min(height, bottom + around_px)),
            slice(max(0, left - around_px), min(width, right + around_px)),
        )

    @cached_property
    def _section_digests(self) -> tuple[str, ...]:
        return compute_digests(self, self.reviewed_sections())


def open_reviewed(workspace: Workspace, run: str) -> list[ReviewedVolume]:
    """Return the volumes of a run of which people have accepted or fixed regions, as the log is now.

    What reviewers enter afterwards changes nothing of it.

    Raises
    ------
    ConfigError
        When nobody has reviewed the run, or no region was accepted or fixed.
    WorkspaceError
        When the run is missing, its log was changed after it was written, or a mask is not the one that was reviewed.
    InputError
        When the mask that was reviewed is not there any more.
    """
    record = load_run(workspace, run)
    if not has_log(workspace, run):
        raise ConfigError("nobody has reviewed this run", where=run, fix=f"review it first: `segem review {run}`")
    verify_review(workspace, run)
    opened = []
    with open_log(workspace, run) as log:
        head = log.head()
        for volume in record.volumes:
            places = trusted_places(log, volume, head.entries)
            if not places:
                continue
            read = reader_of(open_mask(workspace, run, volume))
            require_reviewed_mask(log, volume, read)
            regions = {place: log.mask(place, read, head.entries) for place in places}
            # With what people entered apart, such as second readings: that was work too.
            made = [
                one
                for one in log.entries(WORK)
                if one.number <= head.entries and one.place and one.place.volume.partition(SHEET)[0] == volume
            ]
            origin = ReviewedLabels(
                run=run,
                volume=volume,
                head=head,
                digest=_digest(run, head, regions),
                regions=len(regions),
                people=tuple(sorted({one.author for one in made})),
                active_seconds=sum(one.active_seconds for one in made),
            )
            path = Volume.open(workspace.volume(volume)).path
            opened.append(ReviewedVolume(path, origin, regions))
    if not opened:
        raise ConfigError(
            "no region of this run was accepted or fixed, so there is nothing to learn from",
            where=run,
            fix=f"decide regions first: `segem review {run}`",
        )
    return opened


def _digest(run: str, head: Head, regions: Regions) -> str:
    digest = hashlib.sha256(f"{run} {head.entries} {head.digest}".encode())
    for place, mask in sorted(regions.items(), key=lambda item: item[0].model_dump_json()):
        digest.update(place.model_dump_json().encode() + np.packbits(mask).tobytes())
    return digest.hexdigest()
