"""The pictures of a report: sections and regions to look at closely, and every section small."""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segem.geometry import Box, ceil_div
from segem.io.files import disk_errors
from segem.io.layers import Layers, read_section
from segem.io.workspace import Workspace
from segem.kernels.pictures import (
    draw_errors,
    draw_membrane,
    draw_overlay,
    draw_probability,
    find_shrink_factor,
    stretch_contrast,
)
from segem.kernels.regions import find_largest, sum_tiles
from segem.kernels.truth import is_known, is_membrane
from segem.progress import track
from segem.records.error_map import ErrorMap
from segem.records.scores import VolumeScores
from segem.stages.reporting.choice import REGIONS, choose_leafed, choose_regions, choose_sections
from segem.stages.reporting.words import say_share

LARGE_PX, SMALL_PX, LEAFED_PX = 1024, 168, 512
"""Longest edge of a picture beside the page, of its thumbnail in the page, and of one of the leafed-through pair."""
REGION_PX = 256
"""Edge of the regions that are searched for errors."""
EXACT = ("-truth", "-baseline", "-model", "-closed")
PICTURES, SECTIONS = "pictures", "sections"
"""Folders of a report: what the page shows, and every section."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One picture of the page: its caption, what it shows in words, its file, and itself small."""

    caption: str
    alt: str
    file: str
    """Beside the page."""
    thumbnail: bytes
    width: int
    height: int
    """Of the thumbnail."""

    @property
    def uri(self) -> str:
        """The thumbnail itself, so that the page shows something even where it is mailed alone."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.thumbnail).decode()}"


@dataclass(frozen=True)
class Shown:
    """A section or a region that the page shows, and why."""

    title: str
    why: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class VolumePictures:
    """All pictures of a volume."""

    shown: tuple[Shown, ...] = ()
    leafed: tuple[int, ...] = ()
    """The sections that can be leafed through."""
    height: int = 1
    width: int = 1
    """Of one of the two pictures of such a section."""


def name_leaf(volume: str, z: int) -> str:
    """Return the file of a section that is leafed through, beside the page."""
    return f"{SECTIONS}/{volume}-{z:04d}.jpg"


def draw_pictures(
    run: str, volume: VolumeScores, workspace: Workspace, folder: Path, errors: ErrorMap | None = None
) -> VolumePictures:
    """Draw the pictures of a volume into the folder of a report, section by section.

    Parameters
    ----------
    run : str
        The run.
    volume : VolumeScores
        What is known of the volume.
    workspace : Workspace
        Where both live.
    folder : Path
        The folder of the report.
    errors : ErrorMap, optional
        Where errors are expected: those regions are shown where there is no truth to find errors by.

    Raises
    ------
    SegemError
        When a layer cannot be read, or the disk refuses.
    """
    if volume.state != "complete" or volume.sections is None:
        return VolumePictures()
    there = {"segmented": volume.model is not None, "clustered": volume.baseline is not None}
    layers = Layers.open(run, volume.name, workspace, **there, divided=volume.divided)
    painter = _Painter(volume, layers, folder)
    with disk_errors(folder):
        for name in (PICTURES, SECTIONS):
            (folder / name).mkdir(exist_ok=True)
    _, height, width = painter.layers.source.shape
    leafed = choose_leafed(volume.sections, height * width)
    worst: list[tuple[int, Box]] = []
    with track(f"pictures {volume.name}", len(leafed), "section") as advance:
        for z in leafed:
            section = painter.read(Box((z, 0, 0), (z + 1, height, width)))
            painter.save_leaf(z, section)
            if region := painter.find_worst(z, section):
                # The worst of each section, so that one bad section does not hide all others.
                heapq.heappush(worst, region)
                if len(worst) > REGIONS:
                    heapq.heappop(worst)
            advance(1)
    shown = [painter.show_section(z, why) for z, why in choose_sections(volume).items()]
    shown += [painter.show_region(box, _say_errors(wrong, box)) for wrong, box in sorted(worst, reverse=True)]
    if not worst and errors is not None:
        shown += [painter.show_region(box, why) for box, why in choose_regions(errors)]
    factor = find_shrink_factor((height, width), LEAFED_PX)
    return VolumePictures(tuple(shown), leafed, ceil_div(height, factor), ceil_div(width, factor))


def _say_errors(wrong: int, box: Box) -> str:
    return f"most errors of its section: {say_share(wrong / box.size)} of the pixels"


@dataclass(frozen=True)
class _Section:
    """What there is of a section, or of a region of it."""

    raw: NDArray[Any]
    truth: Mask | None
    baseline: Mask | None
    probability: Mask | None
    membrane: Mask | None
    closed: Mask | None

    @property
    def found(self) -> Mask | None:
        """The mask of the model, or of the baseline where there is no model."""
        return self.baseline if self.membrane is None else self.membrane

    def crop(self, box: Box) -> _Section:
        """Return a region of it."""
        (_, *start), (_, *stop) = box.start, box.stop
        cut = tuple(slice(first, last) for first, last in zip(start, stop, strict=True))
        layers = (self.truth, self.baseline, self.probability, self.membrane, self.closed)
        return _Section(self.raw[cut], *(None if layer is None else layer[cut] for layer in layers))


@dataclass(frozen=True)
class _Painter:
    """Draws the pictures of one volume."""

    volume: VolumeScores
    layers: Layers
    folder: Path

    def read(self, box: Box) -> _Section:
        """Read the layers of a section."""
        layers, z = self.layers, box.start[0]
        others = (layers.truth, layers.baseline, layers.probability, layers.membrane, layers.closed)
        return _Section(
            read_section(layers.source.raw, z), *(None if one is None else read_section(one, z) for one in others)
        )

    def save_leaf(self, z: int, section: _Section) -> None:
        """Save a section small: the raw image, and beside it what was found there."""
        factor = find_shrink_factor(section.raw.shape, LEAFED_PX)
        raw = self._stretch(section, factor)
        pair = [np.repeat(raw[..., None], 3, axis=-1)]
        if section.found is not None:
            pair.append(draw_found(raw, section.truth, section.found, factor))
        _save(self.folder / name_leaf(self.volume.name, z), np.hstack(pair), quality=80)

    def find_worst(self, z: int, section: _Section) -> tuple[int, Box] | None:
        """Return the region of a section with most errors, and how many; None where there are none to count."""
        if section.truth is None or section.found is None:
            return None
        known = is_known(section.truth)
        wrong = (is_membrane(section.truth) != (section.found != 0)) & known
        errors, box = find_largest(sum_tiles(wrong, REGION_PX), (wrong.shape[0], wrong.shape[1]), REGION_PX, z)
        # A section no larger than a region is shown as such.
        return (errors, box) if errors and box.shape[1:] != wrong.shape else None

    def show_section(self, z: int, why: str) -> Shown:
        """Draw all that there is of a section."""
        _, height, width = self.layers.source.shape
        section = self.read(Box((z, 0, 0), (z + 1, height, width)))
        return Shown(f"Section {z}", why, tuple(self._draw(section, f"{z:04d}", f"{self.volume.name}, section {z}")))

    def show_region(self, box: Box, why: str) -> Shown:
        """Draw all that there is of a region."""
        section = self.read(box).crop(box)
        z, y, x = box.start
        place = f"{z:04d}-y{y}-x{x}"
        title = f"Section {z}, rows {y} to {box.stop[1] - 1}, columns {x} to {box.stop[2] - 1}"
        return Shown(
            title, why, tuple(self._draw(section, place, f"{self.volume.name}, {title[0].lower()}{title[1:]}"))
        )

    def _draw(self, section: _Section, place: str, where: str) -> Iterator[Picture]:
        volume = self.volume
        factor = find_shrink_factor(section.raw.shape, LARGE_PX)
        raw = self._stretch(section, factor)
        baseline = volume.baseline.title if volume.baseline else "Baseline"
        yield self._encode(place, "raw", "Raw", f"{where}: raw image", raw)
        if section.truth is not None:
            yield self._draw_mask(section.truth, factor, place, "truth", "Truth", where)
        if section.baseline is not None:
            yield self._draw_mask(section.baseline, factor, place, "baseline", baseline, where)
        if section.probability is not None:
            what = f"{where}: probability of membrane, dark where it is certain"
            yield self._encode(place, "probability", "Probability", what, draw_probability(section.probability, factor))
        if section.membrane is not None:
            yield self._draw_mask(section.membrane, factor, place, "model", "Model", where)
        if section.found is not None:
            who = "model" if section.membrane is not None else baseline
            pixels = draw_found(raw, section.truth, section.found, factor)
            yield self._draw_over(pixels, section, place, "", who, where)
        if section.closed is not None:
            yield self._draw_mask(section.closed, factor, place, "closed", "Model, closed", where)
            pixels = draw_found(raw, section.truth, section.closed, factor)
            yield self._draw_over(pixels, section, place, "closed-", "closed mask", where)

    def _draw_over(
        self, pixels: NDArray[np.uint8], section: _Section, place: str, kind: str, who: str, where: str
    ) -> Picture:
        """Name a mask over the raw image: its errors, or the mask itself where there is no truth."""
        if section.truth is not None:
            kind, caption, what = f"{kind}errors", f"Errors of the {who}", "found, invented and missed membrane"
        else:
            kind, caption, what = f"{kind}overlay", f"{who[0].upper()}{who[1:]} over raw", f"membrane by the {who}"
        return self._encode(place, kind, caption, f"{where}: {what} in colour over the raw image", pixels)

    def _draw_mask(self, mask: Mask, factor: int, place: str, kind: str, caption: str, where: str) -> Picture:
        said = "" if mask.any() else " (empty)"
        alt = f"{where}: membrane by {caption}, dark on white" if not said else f"{where}: no membrane by {caption}"
        return self._encode(place, kind, f"{caption}{said}", alt, draw_membrane(mask, factor))

    def _stretch(self, section: _Section, factor: int) -> NDArray[np.uint8]:
        contrast = self.layers.source.statistics.percentiles
        return stretch_contrast(section.raw, contrast["1"], contrast["99"], factor)

    def _encode(self, place: str, kind: str, caption: str, alt: str, pixels: NDArray[np.uint8]) -> Picture:
        return save_picture(self.folder, f"{self.volume.name}-{place}-{kind}", caption, alt, pixels)


def save_picture(folder: Path, name: str, caption: str, alt: str, pixels: NDArray[np.uint8]) -> Picture:
    """Save a picture large in the folder of a report, and return it small.

    Parameters
    ----------
    folder : Path
        Of the report.
    name : str
        Of the file, without its ending; the first part is the volume's.
    caption, alt : str
        What stands below it, and what it shows in words.
    pixels : ndarray of uint8, shape (y, x) or (y, x, 3)
        The picture.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    # What is only black and white has edges that JPEG would blur; the grain of a microscope is a fifth of a PNG in it.
    exact = name.endswith(EXACT)
    file = f"{PICTURES}/{name}.{'png' if exact else 'jpg'}"
    _save(folder / file, pixels, **({} if exact else {"quality": 88, "subsampling": 0}))
    picture = Image.fromarray(pixels)
    picture.thumbnail((SMALL_PX, SMALL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=72)
    return Picture(caption, alt, file, buffer.getvalue(), picture.width, picture.height)


def _save(file: Path, pixels: NDArray[np.uint8], **options: Any) -> None:
    # Not one by one through a hidden name: the folder of the report is new, and becomes durable as a whole.
    with disk_errors(file):
        Image.fromarray(pixels).save(file, **options)


def draw_found(raw: NDArray[np.uint8], truth: Mask | None, found: Mask, factor: int) -> NDArray[np.uint8]:
    """Return the errors of a mask over the raw picture, or where there is no truth the mask."""
    return draw_overlay(raw, found, factor) if truth is None else draw_errors(raw, truth, found, factor)
