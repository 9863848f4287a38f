"""A white sheet, and the few shapes that the figures are drawn of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
INK, GREY, PALE = "#222222", "#777777", "#EEEEEE"


class Sheet:
    """A white sheet to draw on; lengths are pixels, y goes down."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
        ]

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str = "white",
        edge: str = INK,
        opacity: float = 1,
        thick: float = 1,
    ) -> None:
        """Draw a rectangle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}" stroke="{edge}" '
            f'fill-opacity="{opacity:.2g}" stroke-width="{thick:g}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: object,
        size: float = 13,
        anchor: str = "middle",
        fill: str = INK,
        bold: bool = False,
    ) -> None:
        """Write a line of text whose middle (or start, or end) is at x and whose foot is at y."""
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" fill="{fill}"{weight}>'
            f"{escape(str(words))}</text>"
        )

    def label(self, x: float, y: float, w: float, h: float, *lines: str, fill: str = PALE, size: float = 12) -> None:
        """Draw a box with lines of text in its middle."""
        self.box(x, y, w, h, fill)
        first = y + h / 2 + 0.36 * size - (len(lines) - 1) * 0.65 * size
        for number, line in enumerate(lines):
            self.text(x + w / 2, first + 1.3 * size * number, line, size, bold=number == 0 and len(lines) > 1)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """Draw a line through points with a tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.3" marker-end="url(#tip)"{dash}/>'
        )

    def grid(
        self,
        x: float,
        y: float,
        cell: float,
        fills: Sequence[Sequence[str]],
        words: Sequence[Sequence[object]] | None = None,
    ) -> None:
        """Draw squares with their upper left at (x, y), and what stands in them."""
        for i, row in enumerate(fills):
            for j, fill in enumerate(row):
                self.box(x + j * cell, y + i * cell, cell, cell, fill, "#999999")
                if words is not None:
                    self.text(
                        x + (j + 0.5) * cell,
                        y + (i + 0.5) * cell + 0.17 * cell,
                        words[i][j],
                        min(0.46 * cell, 1.5 * cell / max(1, len(str(words[i][j])))),
                    )

    def svg(self) -> str:
        """Return the drawing as a file."""
        return "\n".join([*self.parts, "</svg>", ""])


def mixed(colour: str, share: float) -> str:
    """Return a colour thinned with white, opaque at a share of 1."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (c - 255) * share):02X}" for c in channels)
