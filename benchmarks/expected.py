"""Measures how close expected scores come to measured ones, when an estimate abstains, and what an error map finds.

    .venv/bin/python benchmarks/expected.py --data-root DIR --cache DIR [--models unet-em FOLDER ...]

Each model's reference is fitted on the labelled sections that its card names as validation or calibration, and every
crop of 512 x 512 px and two sections that it has not seen is then a volume of its own. Crops of tissue it learned from
are in domain; those of other tissue are not, nor are its own when inverted, blurred or halved in size. The constants of
`segem.kernels.estimate` were chosen on the first sections of each stack (`CHOSE`); no figure is of a crop of those.
Predictions are kept in the cache, so a measurement that was stopped carries on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from machine import provenance
from numpy.typing import NDArray
from scipy import ndimage

from segem.config import load_manifest
from segem.geometry import Range, around
from segem.io.layers import read_section
from segem.io.seen import merge_ranges
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.drift import TOO_FAR, Traits, mean_traits, measure_distance, measure_section
from segem.kernels.errors import Regions, expect_errors_in, find_errors_in, share_of_errors
from segem.kernels.estimate import (
    FAR_SECTION,
    IOU_FLOOR,
    NORMAL_90,
    ODD_SECTIONS,
    V_RAND_FLOOR,
    Observed,
    estimate_scores,
)
from segem.kernels.expected import ExpectedConfusion, log_odds
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.normalize import zscore
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import Artefact, find_model, geometry_of, load_net
from segem.learn.engine import Engine, choose_device
from segem.records.expected import Abstains, Estimate, Expected
from segem.records.reference import Reference
from segem.stages.training.provenance import LEARNED, find_calibrated, find_known
from segem.stages.training.reference import FitOn, fit_reference
from segem.stages.volumes.ingest import ingest

ROOT = Path(__file__).resolve().parent.parent
CROP_PX, CROP_SECTIONS, REGION_PX = 512, 2, 256
SAME_TISSUE = {"isbi-test": "isbi", "stack2": "stack1", "ac3": "ac4"}
"""Volumes of the same animal, stain and microscope as one that a model may have learned from."""
CHOSE = {"isbi": 12, "stack1": 5, "ac4": 12}
"""How many sections of each stack, from its first, chose constants."""
COVERED, MOST_SILENT = 0.9, 0.025
"""Share of intervals that hold the score, and share of abstentions on each of two grounds, that constants aim at."""

Image = NDArray[np.float32]


@dataclass
class Predictor:
    """Gives the probability of a model as a run stores it; what was computed once is kept in a folder."""

    artefact: Artefact
    folder: Path
    _engine: list[Engine] = field(default_factory=list)

    def __call__(self, image: Image) -> NDArray[np.uint8]:
        """Return the stored probability (y, x) of a section, given with its neighbours."""
        name = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:24]
        path = self.folder / f"{name}.npy"
        if path.is_file():
            return np.asarray(np.load(path))
        geometry = geometry_of(self.artefact.card)
        if not self._engine:
            net = load_net(self.artefact)
            self._engine.append(Engine(net, choose_device("auto"), geometry.context_sections, runtime="auto"))
        (probability,) = self._engine[0].averaged([image], geometry.stride_px)
        stored = quantize_probability(probability)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, stored)
        return stored


@dataclass(frozen=True)
class Case:
    """A small volume that a model has not seen."""

    name: str
    kind: str
    first: int
    """Its first section in its stack."""
    images: tuple[Image, ...]
    truth: tuple[NDArray[np.uint8], ...]
    """Empty where there is none."""
    voxel_nm: tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One case of one model: what was measured and what was expected."""

    model: str
    case: Case
    iou: float | None
    v_rand: float | None
    found: Expected | Abstains
    blind: Expected | Abstains
    """The same by images and masks alone, without the size of voxels."""
    distance: float
    """Of the whole crop from the nearest volume of the reference."""
    section_distance: float
    """The same of the section that lies second furthest: one alone silences nothing."""
    regions: tuple[NDArray[np.float64], ...] = ()
    """Expected and measured errors of each region, and the mean expected error of its section."""

    @property
    def chose(self) -> bool:
        """Whether its tissue chose the constants."""
        return self.case.first < CHOSE.get(self.case.name.split()[0], 0)


def blur(px: float) -> Callable[[Image], Image]:
    """Return what blurs sections."""
    return lambda image: _as_spread(ndimage.gaussian_filter(image, (0, px, px)), image)


def add_noise(image: Image) -> Image:
    """Return sections with noise half as strong as their contrast."""
    rng = np.random.default_rng(0)
    return _as_spread(image + rng.normal(0, 0.5, image.shape), image)


def halve(image: Image) -> Image:
    """Return sections with pixels twice as large."""
    depth, height, width = image.shape
    pairs = image[:, : height // 2 * 2, : width // 2 * 2].reshape(depth, height // 2, 2, width // 2, 2)
    return _as_spread(pairs.mean((2, 4)), image)


def _as_spread(image: NDArray[np.floating], like: Image) -> Image:
    # As if the changed stack had been ingested: its own mean and deviation become 0 and 1 again.
    return np.asarray((image - image.mean()) / image.std() * like.std() + like.mean(), np.float32)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "inverted": np.negative,
    "blur 3 px": blur(3),
    "halved": halve,
    "blur 1 px": blur(1),
    "blur 1.5 px": blur(1.5),
    "noise": add_noise,
}


def open_volumes(data_root: Path, workspace: Workspace) -> dict[str, Volume]:
    """Ingest every public stack."""
    entries = load_manifest(ROOT / "data" / "manifests" / "all.yaml", data_root).volumes
    return {entry.name: Volume.open(ingest(entry.ingest_config(), workspace).path) for entry in entries}


def split(artefact: Artefact, volume: Volume) -> tuple[list[Range], list[Range], list[Range]]:
    """Return the sections that a model learned from, those its reference is fitted on, and those it has not seen."""
    whole = (0, volume.shape[0])
    known = list(find_known(artefact.card.trained_on, volume, whole))
    learned = {z for use, part in known for z in range(*part) if use == LEARNED}
    chose = {z for use, part in known for z in range(*part) if use != LEARNED} - learned
    fitted = {z for part in find_calibrated(artefact.card, volume, whole) for z in range(*part)}
    free = set(range(whole[1])) - learned - chose - fitted
    return _ranges(learned), _ranges(fitted or chose), _ranges(free)


def _ranges(sections: set[int]) -> list[Range]:
    return merge_ranges((z, z + 1) for z in sections)


def cut_cases(artefact: Artefact, volumes: dict[str, Volume], spoil: bool) -> Iterator[Case]:
    """Yield crops of sections that a model has not seen, and if asked for, those that are spoilt."""
    context = geometry_of(artefact.card).context_sections
    for name, volume in volumes.items():
        like = volumes.get(SAME_TISSUE.get(name, name), volume)
        kind = "in domain" if split(artefact, like)[0] else "across"
        _, height, width = volume.shape
        side = min(CROP_PX, height, width)
        starts = [z for part in split(artefact, volume)[2] for z in range(part[0], part[1] - 1, CROP_SECTIONS)]
        corners = [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
        # All of a small stack that it knows; elsewhere fewer, since sections of one block are much alike.
        if height > CROP_PX or kind == "across":
            starts = starts[len(starts) // 2 :][:1]
            corners = [corners[0], corners[-1]][: len(corners)]
        if not volume.has_label("truth"):
            starts, corners = starts[::8], corners[:1]
        for start in starts:
            for corner in corners:
                case = _cut(volume, start, corner, side, context, kind)
                yield case
                if spoil and kind == "in domain" and case.truth and (start, corner) == (starts[0], corners[-1]):
                    yield from map(case_changed(case), CHANGES)


def case_changed(case: Case) -> Callable[[str], Case]:
    """Return what spoils a case in one of the ways of `CHANGES`."""

    def change(kind: str) -> Case:
        images = tuple(CHANGES[kind](image) for image in case.images)
        z, y, x = case.voxel_nm
        if kind == "halved":
            return replace(case, kind=kind, images=images, truth=(), voxel_nm=(z, 2 * y, 2 * x))
        return replace(case, kind=kind, images=images)

    return change


def _cut(volume: Volume, start: int, corner: tuple[int, int], side: int, context: int, kind: str) -> Case:
    cut = tuple(slice(at, at + side) for at in corner)
    sections, last = range(start, start + CROP_SECTIONS), volume.shape[0] - 1

    def read(z: int) -> Image:
        return zscore(read_section(volume.raw, min(max(z, 0), last))[cut], volume.statistics)

    images = tuple(np.stack([read(z + dz) for dz in around(context)]) for z in sections)
    known = volume.has_label("truth")
    truth = tuple(np.asarray(read_section(volume.label("truth"), z)[cut]) for z in sections) if known else ()
    at = f"{volume.name} {start}-{start + CROP_SECTIONS - 1} y{corner[0]} x{corner[1]}"
    return Case(at, kind, start, images, truth, volume.voxel_size.zyx)


def judge(model: str, volumes: dict[str, Volume], cache: Path, whole: bool) -> Iterator[Row]:
    """Fit the reference of a model and estimate every case; V_rand and what is spoilt only where all is asked for."""
    artefact = find_model(model)
    # Versions of one model share a name; what is kept of one must not serve another.
    predict = Predictor(artefact, cache / "predicted" / artefact.digest[:16])
    context, threshold = geometry_of(artefact.card).context_sections, artefact.card.threshold
    fit_on = []
    for volume in volumes.values():
        learned, fitted, _ = split(artefact, volume)
        fit_on += [FitOn(volume, part, tuple(learned)) for part in fitted]
    reference = fit_reference(predict, threshold, fit_on, context)
    if reference is None:
        raise SystemExit(f"{model}: the card names no labelled section of these stacks to fit a reference on")
    for case in cut_cases(artefact, volumes, whole):
        stored = [predict(image) for image in case.images]
        sections = [
            measure_section(image[context // 2], one, threshold) for image, one in zip(case.images, stored, strict=True)
        ]
        confusion = sum((ExpectedConfusion.count(one, threshold) for one in stored), ExpectedConfusion())
        z, y, x = case.voxel_nm
        observed = Observed(confusion, [one for one in sections if one], (y, x), z, stored[0].size)
        distance, *single = (
            _find_distance(reference, one) for one in (mean_traits(observed.sections), *observed.sections)
        )
        iou, v_rand = _measure(case, stored, threshold, predict.folder, whole)
        yield Row(
            artefact.card.name,
            case,
            iou,
            v_rand,
            estimate_scores(reference, observed),
            estimate_scores(*_without_sizes(reference, observed)),
            distance,
            sorted(single)[-1 - ODD_SECTIONS] if len(single) > ODD_SECTIONS else 0.0,
            _map_regions(case, stored, threshold),
        )


def _measure(
    case: Case, stored: Sequence[NDArray[np.uint8]], threshold: float, folder: Path, cells: bool
) -> tuple[float | None, float | None]:
    if not case.truth:
        return None, None
    pairs = list(zip(case.truth, stored, strict=True))
    confusion = Confusion()
    for truth, one in pairs:
        confusion += Confusion.count(truth, threshold_probability(one, threshold))
    if not cells or case.kind != "in domain":
        return confusion.iou, None
    # V_rand takes seconds a crop, so it is kept.
    path = folder / f"{hashlib.sha256(case.name.encode()).hexdigest()[:24]}.json"
    if not path.is_file():
        best = sum((SegmentationSums.count(*pair) for pair in pairs), SegmentationSums.nothing()).best("rand")
        path.write_text(json.dumps(best.value if best else None))
    return confusion.iou, json.loads(path.read_text())


def _find_distance(reference: Reference, traits: Traits) -> float:
    return min(measure_distance(traits, one.traits).value for one in reference.volumes)


def _without_sizes(reference: Reference, observed: Observed) -> tuple[Reference, Observed]:
    same = {"pixel_nm": (1.0, 1.0), "section_nm": 1.0}
    volumes = tuple(one.model_copy(update=same) for one in reference.volumes)
    return reference.model_copy(update={"volumes": volumes}), replace(observed, pixel_nm=(1.0, 1.0), section_nm=1.0)


def _map_regions(case: Case, stored: Sequence[NDArray[np.uint8]], threshold: float) -> tuple[NDArray[np.float64], ...]:
    columns: list[list[NDArray[np.float64]]] = []
    for truth, one in zip(case.truth, stored, strict=bool(case.truth)):
        regions = Regions.cut((one.shape[0], one.shape[1]), REGION_PX)
        expected = expect_errors_in(one, threshold, regions)
        columns.append(
            [expected, find_errors_in(truth, one, threshold, regions), np.full(expected.shape, expected.mean())]
        )
    return tuple(np.concatenate([part.ravel() for part in parts]) for parts in zip(*columns, strict=True))


def holds(found: Estimate | None, measured: float | None) -> bool:
    """Return whether an interval holds what was measured."""
    return found is not None and measured is not None and found.low <= measured <= found.high


def covers(found: Expected | Abstains, iou: float | None) -> bool:
    """Return whether an estimate was given, and its interval holds the IoU."""
    return isinstance(found, Expected) and holds(found.iou, iou)


def describe(row: Row) -> str:
    """Return a line on a case."""

    def text(found: Expected | Abstains) -> str:
        if isinstance(found, Abstains):
            return "abstains"
        mark = "" if row.iou is None or covers(found, row.iou) else "!"
        return f"{found.iou.value:.3f} [{found.iou.low:.3f}, {found.iou.high:.3f}]{mark} d {found.distance:.1f}"

    measured = "-" if row.iou is None else f"{row.iou:.3f}"
    return f"{row.model:13} {row.case.name:24} {row.case.kind:11} {measured:5}  {text(row.found):32} {text(row.blind)}"


def summarise_constants(rows: Sequence[Row]) -> None:
    """Print what the crops that constants were chosen on would have them be."""
    mine = [row for row in rows if row.case.kind == "in domain"]
    given = [(row.found, row) for row in mine if isinstance(row.found, Expected)]
    iou = [_need_floor(found.iou, row.iou, IOU_FLOOR) for found, row in given if row.iou is not None]
    v_rand = [
        _need_floor(found.v_rand, row.v_rand, V_RAND_FLOOR)
        for found, row in given
        if found.v_rand is not None and row.v_rand is not None
    ]
    print(f"\nby {len(mine)} crops of the first sections:\n\n| constant | would be | is |\n|---|---|---|")
    for name, values, share, chosen in (
        ("IOU_FLOOR", iou, COVERED, IOU_FLOOR),
        ("V_RAND_FLOOR", v_rand, COVERED, V_RAND_FLOOR),
        ("TOO_FAR", [row.distance for row in mine], 1 - MOST_SILENT, TOO_FAR),
        ("FAR_SECTION", [row.section_distance for row in mine], 1 - MOST_SILENT, FAR_SECTION),
    ):
        if values:
            print(f"| {name} | {np.quantile(values, share):.2f} | {chosen} |")


def _need_floor(found: Estimate, measured: float, floor: float) -> float:
    """Return the least floor with which an interval holds what was measured."""
    low, middle, high = map(log_odds, (found.low, found.value, found.high))
    fitted = ((high - low) / 2 / NORMAL_90) ** 2 - floor**2
    return float(np.sqrt(max(0.0, ((log_odds(measured) - middle) / NORMAL_90) ** 2 - fitted)))


def summarise_domain(rows: Sequence[Row]) -> None:
    """Print how good estimates are on tissue that the models know."""
    print("\n| model | crops | IoU | error | covered | width | crops | V_rand | error | covered | width | abstains |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    names = list(dict.fromkeys(row.model for row in rows))
    for name in [*names, "all"]:
        mine = [row for row in rows if row.case.kind == "in domain" and name in (row.model, "all")]
        labelled = [row for row in mine if row.iou is not None]
        if labelled:
            silent = sum(isinstance(row.found, Abstains) for row in mine)
            # V_rand is judged where it is given: sections of the reference's size, which most crops are not.
            sized = [row for row in labelled if isinstance(row.found, Expected) and row.found.v_rand is not None]
            cells = [_summary([(row.found, row.iou) for row in labelled], lambda found: found.iou)]
            cells += [_summary([(row.found, row.v_rand) for row in sized], lambda found: found.v_rand)]
            print(f"| {name} | {' | '.join(cells)} | {silent} of {len(mine)} |")


def _summary(
    pairs: Sequence[tuple[Expected | Abstains, float | None]], score: Callable[[Expected], Estimate | None]
) -> str:
    pairs = [(found, value) for found, value in pairs if value is not None]
    if not pairs:
        return "- | - | - | - | -"
    measured = [value for _, value in pairs if value is not None]
    given = [(score(found), value) for found, value in pairs if isinstance(found, Expected) and value is not None]
    said = [(one, value) for one, value in given if one is not None]
    error = np.mean([abs(one.value - value) for one, value in said]) if said else np.nan
    width = np.mean([one.high - one.low for one, _ in said]) if said else np.nan
    covered = sum(holds(one, value) for one, value in said) / len(pairs)
    return f"{len(pairs)} | {min(measured):.2f} to {max(measured):.2f} | {error:.3f} | {covered:.0%} | {width:.3f}"


def summarise_shift(rows: Sequence[Row]) -> None:
    """Print what becomes of tissue that the models do not know."""
    print("\n| tissue | cases | abstains | covers | wrong | abstains, sizes unknown | covers | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("across", *CHANGES):
        here = [row for row in rows if row.case.kind == kind]
        cells = []
        for sight in ("found", "blind"):
            estimates = [(getattr(row, sight), row.iou) for row in here]
            silent = sum(isinstance(found, Abstains) for found, _ in estimates)
            right = sum(covers(found, iou) for found, iou in estimates)
            cells += [silent, right, len(here) - silent - right]
        print(f"| {kind} | {len(here)} | {' | '.join(map(str, cells))} |")


def summarise_map(rows: Sequence[Row]) -> None:
    """Print how much of all errors lies in the regions that the map puts first."""
    print("\n| ordered by | top 10 % | top 20 % |\n|---|---|---|")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.case.kind == "in domain" and row.regions:
            groups.setdefault((row.model, row.case.name.split()[0]), []).append(row)
    orders: dict[str, Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]]] = {
        "expected error of the region": lambda columns: columns[0],
        "mean expected error of the section": lambda columns: columns[2],
        "chance": lambda columns: np.zeros(columns[0].shape),
        "measured error (the best there is)": lambda columns: columns[1],
    }
    for name, order in orders.items():
        found = []
        for group in groups.values():
            columns = [np.concatenate(parts) for parts in zip(*(row.regions for row in group), strict=True)]
            found.append([share_of_errors(order(columns), columns[1], share) for share in (0.1, 0.2)])
        tenth, fifth = np.mean(found, axis=0)
        print(f"| {name} | {tenth:.1%} | {fifth:.1%} |")
    regions = sum(row.regions[0].size for group in groups.values() for row in group)
    print(f"\nmeans over {len(groups)} pairs of model and stack, {regions} regions of {REGION_PX} px")


def main() -> None:
    """Print every case and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["unet-em"], help="names, or folders, of models")
    parser.add_argument("--also", nargs="*", default=[], help="models judged without V_rand and spoilt sections")
    parser.add_argument("--cache", type=Path, required=True, help="where volumes and predictions are kept")
    arguments = parser.parse_args()
    volumes = open_volumes(arguments.data_root, Workspace(arguments.cache / "workspace"))
    print(provenance())
    rows = []
    for model in [*arguments.models, *arguments.also]:
        for row in judge(model, volumes, arguments.cache, model in arguments.models):
            rows.append(row)
            print(describe(row), flush=True)
    summarise_constants([row for row in rows if row.chose])
    rows = [row for row in rows if not row.chose]
    summarise_domain(rows)
    summarise_shift(rows)
    summarise_map(rows)


if __name__ == "__main__":
    main()
