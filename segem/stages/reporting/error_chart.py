"""The chart of where the errors of a volume are likely, and of where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from segem.records.error_map import ErrorMap
from segem.stages.reporting.drawing import WIDTH_PX, Chart, Reading, Table, drawn, number_sections
from segem.stages.reporting.words import NOTHING, say_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NARROWEST = 0.02
"""Least share between pale and dark."""
_COLOURS = "YlOrRd"
"""From pale to dark, so that colour-blind readers and printers keep the order."""
_STRIP_PX, _MAP_PX, _LEFT_PX, _GAP_PX = 22, 150, 84, 20
_SHARES = Reading(
    shown="The share of the tissue that the model's mask is expected to get wrong, estimated from its probability: of "
    "each section, of the worst region in it, and region by region of the worst section. The darker, the more.",
    good="Pale, and even along the stack.",
    bad="Dark sections, or a dark corner: the model hesitates there. It may also be wrong where it does not hesitate, "
    "which no estimate shows.",
    do="Look at the darkest sections and regions first, and correct or label those.",
)
_DOUBT = Reading(
    shown="Where the model hesitates: no estimate could be made, so these numbers only put sections and regions in "
    "order. The darker, the more doubt.",
    good="Pale, and even along the stack.",
    bad="Dark sections or regions. A pale strip says nothing: on unknown tissue a model can be sure and wrong.",
    do="Look at the darkest first, and at some pale ones too; then label a few sections.",
)


def draw_error_map(errors: ErrorMap) -> Chart | None:
    """Draw the errors along z, and region by region of the section with most of them; None without any tissue.

    Examples
    --------
    >>> from segem.records.error_map import SectionErrors
    >>> strip = tuple(SectionErrors(section=z, expected=0.1 * z, worst=0.2 * z, measured=0.0) for z in (0, 1))
    >>> chart = draw_error_map(ErrorMap(
    ...     volume="fly", region_px=256, y_px=(0, 256), x_px=(0, 256, 512), sections=strip,
    ...     expected=(((0.0, 0.0),), ((0.0, 0.2),)), measured=(((0.0, 0.0),), ((0.0, 0.0),))))
    >>> chart.summary
    'Expected to be wrong: 0.0 % to 10.0 % of a section, most in section 1. Pale is 0.0 %, dark 20.0 %.'
    >>> chart.table.rows[1]
    ('1', '10.0 %', '20.0 %', '0.0 %')
    """
    sections = errors.sections
    known = [(one.expected, one.section) for one in sections if one.expected is not None]
    if not known:
        return None
    (least, _), (most, section) = min(known), max(known, key=lambda one: (one[0], -one[1]))
    place = next(n for n, one in enumerate(sections) if one.section == section)
    told = "doubt" if errors.abstains else "expected"
    kinds = [(told, [one.expected for one in sections]), ("worst region", [one.worst for one in sections])]
    measured = [one.measured for one in sections]
    if any(value is not None for value in measured):
        kinds.append(("measured", measured))
    maps = [(told, errors.expected[place])]
    if errors.measured:
        maps.append(("measured", errors.measured[place]))
    painted = [value for _, values in kinds for value in values if value is not None]
    painted += [value for _, grid in maps for row in grid for value in row if value is not None]
    # A narrow range would make drama of nothing.
    pale, dark = min(painted), max(*painted, min(painted) + _NARROWEST)
    strips_px = _STRIP_PX * len(kinds)
    height_px = 8 + strips_px + 62 + _MAP_PX + 8
    salt, below_px = f"{errors.volume}-errors", 70 + _MAP_PX
    with drawn(salt, height_px, left_px=_LEFT_PX, top_px=8, bottom_px=below_px) as ((axes,), svg):
        first, last = sections[0].section, sections[-1].section
        _paint(axes, [values for _, values in kinds], (pale, dark), (first - 0.5, last + 0.5, len(kinds) - 0.5, -0.5))
        axes.set_aspect("auto")
        axes.grid(visible=False)
        axes.set_yticks(range(len(kinds)), [name for name, _ in kinds])
        number_sections(axes, first, last)
        figure, wide = axes.figure, (WIDTH_PX - 14 - _LEFT_PX - _GAP_PX) / 2
        for n, (name, grid) in enumerate(maps):
            left = _LEFT_PX + n * (wide + _GAP_PX)
            # Sections have any form: the map is as large as fits, from the top left on.
            one = figure.add_axes((left / WIDTH_PX, 8 / height_px, wide / WIDTH_PX, _MAP_PX / height_px), anchor="NW")
            one.patch.set_visible(False)
            one.set_xticks([])
            one.set_yticks([])
            _paint(one, grid, (pale, dark), (0, errors.x_px[-1], errors.y_px[-1], 0))
            one.set_title(f"section {section}, {name}", loc="left", fontsize="medium", pad=3)
    shares = f"{say_share(least)} to {say_share(most)} of a section"
    said = "Doubt" if errors.abstains else "Expected to be wrong"
    return Chart(
        "errors",
        "Where does the model hesitate?" if errors.abstains else "Where are errors likely?",
        f"{said}: {shares}, most in section {section}. Pale is {say_share(pale)}, dark {say_share(dark)}.",
        svg[0],
        _DOUBT if errors.abstains else _SHARES,
        Table(
            ("Section", *(name.capitalize() for name, _ in kinds)),
            tuple(
                (str(one.section), *(NOTHING if (v := values[n]) is None else say_share(v) for _, values in kinds))
                for n, one in enumerate(sections)
            ),
        ),
        f"An estimate, not measured{'' if errors.measured else ' here'}." if not errors.abstains else "",
    )


def _paint(
    axes: Axes,
    rows: Sequence[Sequence[float | None]],
    ends: tuple[float, float],
    extent: tuple[float, float, float, float],
) -> None:
    values = np.array([[np.nan if value is None else value for value in row] for row in rows], float)
    pale, dark = ends
    axes.imshow(values, cmap=_COLOURS, vmin=pale, vmax=dark, extent=extent, interpolation="nearest")
