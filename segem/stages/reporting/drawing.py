"""Charts as SVG that stands in a page: drawn by matplotlib, then freed of what a page does not need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, MODEL, BASELINE, WARN, PANEL = "#59616e", "#dde1e7", "#0062cc", "#b04a00", "#a8071a", "#f6f7f9"
_VARIABLES = {INK: "quiet", GRID: "line", MODEL: "model", BASELINE: "baseline", WARN: "bad", PANEL: "panel"}
"""Colours that follow the page, which has a dark scheme too."""
MANY = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#000000", "#7f5fc0")
"""Of lines of one kind: colour-blind readers can tell them apart (after Okabe and Ito 2008)."""

WIDTH_PX = 420
"""Of a chart: so narrow that its text can still be read on a phone. Wide screens show several side by side."""
FONT_PX = 12
MOST_POINTS = 600
"""More points than pixels only make the page heavier."""

LineStyle = Literal["-", "--", ":", "-.", "none"]

_FILLS: dict[bool, Literal["full", "none"]] = {True: "none", False: "full"}
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True)
class Reading:
    """How a figure is to be read, in four short answers."""

    shown: str
    good: str
    bad: str
    do: str


@dataclass(frozen=True)
class Table:
    """The numbers that a chart is drawn from, as text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A chart of the page, in a picture, in words and in numbers."""

    name: str
    title: str
    summary: str
    """What is seen, in words."""
    svg: str
    reading: Reading
    table: Table
    after: str = field(default="")
    """What a reader must know before the numbers, such as which sections the model was trained on."""


@dataclass(frozen=True)
class Key:
    """One entry above the axes: what a kind of line or mark is called."""

    name: str
    colour: str
    style: LineStyle = "-"
    marker: str = ""
    hollow: bool = False


@contextmanager
def drawn(
    salt: str, height_px: float, *, rows: int = 1, left_px: float = 40, top_px: float = 28, bottom_px: float = 42
) -> Iterator[tuple[list[Axes], list[str]]]:
    """Yield empty axes, one above the other, and a list that the SVG is put into when the body has drawn.

    Parameters
    ----------
    salt : str
        What the ids in the SVG are made of. Figures of one page need different ones, and the same figure the same one,
        so that a report that is written again is the same.
    height_px : float
        Height of the drawing; its width is `WIDTH_PX`.
    rows : int
        How many axes.
    left_px, top_px, bottom_px : float
        Room for the text around the axes.
    """
    # Imported late: it takes longer to load than a report of one section to write.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "font.size": FONT_PX,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.edgecolor": GRID,
        "grid.color": GRID,
        "grid.linewidth": 1,
        "lines.linewidth": 1.8,
        "path.simplify_threshold": 0.3,
    }
    out: list[str] = []
    with mpl.rc_context(style):
        # 72 dots an inch, so that a point is a pixel. No pyplot: it would keep every figure in memory.
        figure = Figure(figsize=(WIDTH_PX / 72, height_px / 72), dpi=72)
        figure.patch.set_visible(False)
        grid = {"hspace": 0.75} if rows > 1 else {}
        axes = list(figure.subplots(rows, 1, squeeze=False, sharex=rows > 1, gridspec_kw=grid)[:, 0])
        figure.subplots_adjust(
            left=left_px / WIDTH_PX,
            right=1 - 14 / WIDTH_PX,
            top=1 - top_px / height_px,
            bottom=bottom_px / height_px,
        )
        for one in axes:
            one.patch.set_visible(False)
            one.spines[:].set_visible(False)
            one.tick_params(left=False, bottom=False)
            one.grid(axis="y")
            one.set_axisbelow(True)
        yield axes, out
        out.append(_to_svg(figure))


def plot_marks(axes: Axes, x: Sequence[float], y: Sequence[float], key: Key) -> None:
    """Plot marks as their entry above the axes has them."""
    axes.plot(x, y, key.marker, color=key.colour, fillstyle=_FILLS[key.hollow], markersize=6)


def name_lines(axes: Axes, keys: Sequence[Key], *, columns: int = 3) -> None:
    """Write above the axes what lines and marks are called."""
    from matplotlib.lines import Line2D

    axes.legend(
        handles=[
            Line2D([], [], color=key.colour, linestyle=key.style, marker=key.marker, fillstyle=_FILLS[key.hollow])
            for key in keys
        ],
        labels=[key.name for key in keys],
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=columns,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0,
    )


def number_sections(axes: Axes, first: int, last: int) -> None:
    """Let the axis across count sections, in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.set_xlabel("section")


def thin(count: int, keep: Sequence[int] = ()) -> list[int]:
    """Return which of many points are drawn: evenly spaced, with the last and those that must not be lost.

    Examples
    --------
    >>> thin(3), len(thin(5000, [1234])), 1234 in thin(5000, [1234])
    ([0, 1, 2], 558, True)
    """
    step = -(-count // MOST_POINTS)
    return sorted({*range(0, count, step), *([count - 1] if count else []), *keep})


def _to_svg(figure: Figure) -> str:
    file = BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None})
    for prefix, name in (("", _SVG), ("xlink", _XLINK)):
        ET.register_namespace(prefix, name.strip("{}"))
    root = ET.fromstring(file.getvalue())  # noqa: S314 - written a line above
    used = {value.partition("#")[2].rstrip(")") for one in root.iter() for value in one.attrib.values() if "#" in value}
    _slim(root, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    text = ET.tostring(root, encoding="unicode")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text


def _slim(parent: ET.Element, used: set[str]) -> None:
    """Drop groups that only group, ids nobody refers to, metadata, and fonts: a page has its own."""
    children = []
    for child in list(parent):
        if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            continue
        _slim(child, used)
        if child.get("id") not in used:
            child.attrib.pop("id", None)
        if child.tag == f"{_SVG}text":
            _slim_text(child)
        hollow = child.tag in (f"{_SVG}g", f"{_SVG}defs") and (not child.attrib or not len(child))
        # Markers are only found where `use` looks for them when they stay in their definitions.
        if hollow and not (child.tag == f"{_SVG}defs" and len(child)):
            children += list(child)
        else:
            children.append(child)
        child.tail = None
    parent[:] = children
    if parent.tag != f"{_SVG}text":
        parent.text = None


def _slim_text(text: ET.Element) -> None:
    style = dict(part.split(":", 1) for part in text.get("style", "").split(";") if ":" in part)
    kept = {key.strip(): value.strip() for key, value in style.items()}
    for key in list(kept):
        if key not in ("fill", "text-anchor", "font-size", "opacity"):
            del kept[key]
    text.attrib.pop("transform", None)
    text.set("style", "; ".join(f"{key}: {value}" for key, value in kept.items()))
