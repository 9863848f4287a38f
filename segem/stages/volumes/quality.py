"""The quality of a volume's sections, measured on what was written, and read back for reports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from segem.errors import WorkspaceError
from segem.geometry import ZYX, Box
from segem.io.blocks import read_block, voxel_digest
from segem.io.files import disk_errors, write_text
from segem.io.volume import Volume
from segem.kernels.axes import AxisTally
from segem.kernels.quality import SAMPLE_PX, measure_section, trace_section
from segem.kernels.quality_flags import QualityTally
from segem.progress import track
from segem.records.fault import describe_fault
from segem.records.quality import SectionFlag, SectionQuality, VolumeQuality

TABLE = "quality.csv"
"""In the folder of a volume: a row for each section."""
COLUMNS = {
    "section": "section",
    "sharpness": "sharpness",
    "contrast": "contrast_grey",
    "brightness": "brightness_grey",
    "noise": "noise_grey",
    "darkest": "darkest_grey",
    "brightest": "brightest_grey",
    "outside": "outside_share",
    "shift_y_px": "shift_y_px",
    "shift_x_px": "shift_x_px",
    "similarity": "similarity",
}
"""The columns of the table, by the names of the measures."""
_LATER = {"darkest_grey", "brightest_grey"}
"""Columns that the first tables did not have."""
_FLAGS = "flags"
_FIX = "ingest the source again"


def measure_quality(
    volume: Volume, flat: Mapping[int, str] | None = None, axes: AxisTally | None = None
) -> VolumeQuality:
    """Measure every section of a volume, and write down which ones stand out.

    The measures go to ``quality.csv`` in the folder of the volume, the flags to its attributes. Only the middle of a
    section is read, `SAMPLE_PX` at most along each side, so neither time nor memory grows with the size of sections.

    Parameters
    ----------
    volume : Volume
        Ingested; what its layer ``outside`` marks counts for nothing.
    flat : mapping, optional
        By section, in words, what looks like padding and may be tissue.
    axes : AxisTally, optional
        Takes in every section.

    Returns
    -------
    VolumeQuality

    Raises
    ------
    WorkspaceError
        When the volume cannot be read back, or the disk refuses.
    """
    sample = find_middle(volume.shape)
    outside = volume.outside
    tally = QualityTally()
    with track("measure quality", volume.shape[0], "section") as advance:
        for z in range(volume.shape[0]):
            box = Box((z, *sample.start[1:]), (z + 1, *sample.stop[1:]))
            section = read_block(volume.raw, box, _FIX)[0]
            hidden = None if outside is None else read_block(outside, box, _FIX)[0] != 0
            if axes is not None:
                axes.add(section, hidden)
            tally.add(measure_section(section, hidden), trace_section(section, hidden), digest=voxel_digest([section]))
            advance(1)
    flags = (*tally.find_flags(), *flag_flat(flat or {}))
    found = VolumeQuality(
        sections=volume.shape[0], sample_px=sample.shape[1:], flags=tuple(sorted(flags, key=lambda one: one.section))
    )
    write_text(volume.path / TABLE, tabulate_quality(tally.sections, found.flags))
    volume.set_attributes(quality=found.model_dump(mode="json"))
    return found


def flag_flat(flat: Mapping[int, str]) -> Iterator[SectionFlag]:
    """Yield a flag for each section that may have padding with noise, by what was found in words."""
    for z, reason in flat.items():
        yield SectionFlag(section=z, kind="flat", reason=reason)


def find_middle(shape: ZYX) -> Box:
    """Return the part of a stack that is measured: all sections, and of each the middle.

    Examples
    --------
    >>> str(find_middle((9, 512, 4096)))
    '[0:9, 0:512, 1536:2560]'
    """
    _, height, width = shape
    (top, high), (left, wide) = (((n - min(n, SAMPLE_PX)) // 2, min(n, SAMPLE_PX)) for n in (height, width))
    return Box((0, top, left), (shape[0], top + high, left + wide))


def tabulate_quality(sections: Sequence[SectionQuality], flags: Sequence[SectionFlag]) -> str:
    """Return the content of ``quality.csv``: a row for each section, empty where nothing could be measured.

    Examples
    --------
    >>> print(tabulate_quality([SectionQuality(section=0, contrast=90)], []).splitlines()[1])
    0,,90,,,,,0,,,,
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS.values(), _FLAGS])
    for one in sections:
        values = [getattr(one, name) for name in COLUMNS]
        kinds = " ".join(flag.kind for flag in flags if flag.section == one.section)
        table.writerow([*("" if value is None else f"{value:.6g}" for value in values), kinds])
    return text.getvalue()


def read_quality(volume: Volume) -> tuple[VolumeQuality, tuple[SectionQuality, ...]] | None:
    """Read back what `measure_quality` wrote; None for a volume that was ingested before quality was measured.

    Raises
    ------
    WorkspaceError
        When it is damaged, or another version of segem wrote it.
    """
    noted, path = volume.attributes.get("quality"), volume.path / TABLE
    if noted is None:
        return None
    with disk_errors(path):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    try:
        sections = tuple(
            SectionQuality.model_validate({name: _take(row, column) for name, column in COLUMNS.items()})
            for row in rows
        )
        return VolumeQuality.model_validate(noted), sections
    except (ValidationError, KeyError) as error:
        found = describe_fault(error) if isinstance(error, ValidationError) else f"no column {error}"
        raise WorkspaceError(
            "the quality of the sections cannot be read", where=path, found=found, fix="ingest again with --again"
        ) from None


def _take(row: dict[str, str], column: str) -> str | None:
    return (row.get(column) if column in _LATER else row[column]) or None
