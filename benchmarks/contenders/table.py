"""The table that a reader sees, from everything that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

SLOWER = 0.9
"""A timing counts as disturbed when matrix multiplication fell below this share of the best of the run."""

Known = Mapping[str, Mapping[str, Any]]
"""What was measured of one contender, by what it is."""

COLUMNS = (
    *("contender", "what it is", "Mpixel/s, steady", "whole call", "x eager", "x optimised", "peak MB, {few} sections"),
    *("{many} sections", "largest difference", "away from the edge", "class differs", "survives a kill"),
)

NOTES = """\
Speed is the median of the rounds. *Steady* leaves out what a call takes whatever the number of sections (weights,
compiling); tools that work in memory start before the clock and have none. Their figures cover prediction alone, with
input and output in memory; those of tools that go from disk to disk cover reading, scaling and writing too. *x eager*
and *x optimised* are steady speeds over those of the bare net. † marks a timing during which other programs were busy.

Memory is the highest resident size of a process with a thin net, so that the volume shows and not the activations.

Differences are those of the probability to the plain net on whole sections, over the timed sections; *away from the
edge* leaves out 128 pixels on every side. segem stores probabilities in 255 steps, which alone is up to 0.002. The
weights are random, so the differences of an int8 net say nothing about trained ones.

A tool survives a kill (SIGKILL in mid-run) when the same call afterwards leaves finished chunks as they are and gives
the result of an undisturbed run; in brackets, how many of the chunks that were on disk it kept, and how long that call
took in relation to a whole run."""


def markdown(values: dict[str, Any], contenders: Iterable[tuple[str, str]]) -> str:
    """Return what was measured as a Markdown document."""
    settings, machine, measured = values["settings"], values["machine"], values["measured"]
    few, many = settings["memory_sections"]
    best = max((rate for known in measured.values() for t in _timings(known) for rate in t["gemm_gflops"]), default=0)
    speeds = {name: _median(known, "steady") for name, known in measured.items()}
    lines = [
        "# Sliding windows side by side",
        "",
        f"{machine['cpu']}, {settings['threads']} threads, commit {machine['commit']}, {machine['date']}. "
        f"U-Net of {settings['features']} features and depth 4 on sections of {settings['size']} x {settings['size']} "
        f"pixels: {settings['sections']} a timing in memory, {settings['disk_sections']} from disk to disk. "
        f"Matrix multiplication at best: {best:.0f} Gflop/s.",
        "",
        ", ".join(f"{package} {version}" for package, version in values["versions"].items()) + ".",
        "",
        _row(column.format(few=few, many=many) for column in COLUMNS),
        _row("---:" if 1 < i < len(COLUMNS) - 1 else "---" for i in range(len(COLUMNS))),
    ]
    failures = []
    for name, about in contenders:
        known = measured.get(name, {})
        failures += [f"- {name}, {what}: {one['failed']}" for what, one in known.items() if "failed" in one]
        if _timings(known) or any("peak_mb" in one for one in known.values()):
            lines.append(_row([name, about, *_cells(known, speeds, speeds.get(name), best, few, many)]))
    lines += ["", NOTES]
    if failures:
        lines += ["", "Not measured:", "", *failures]
    return "\n".join(lines) + "\n"


def _cells(
    known: Known, speeds: Mapping[str, float | None], speed: float | None, best: float, few: int, many: int
) -> list[str]:
    disturbed = any(min(timing["gemm_gflops"]) < SLOWER * best for timing in _timings(known))
    return [
        _number(speed, "{:.3f}") + ("†" if disturbed else ""),
        _number(_median(known, "megapixels_per_second"), "{:.3f}"),
        *(_number(_ratio(speed, speeds.get(bare)), "{:.2f}") for bare in ("bare-eager", "bare-optimised")),
        *(_number(known.get(f"memory {sections}", {}).get("peak_mb"), "{:.0f}") for sections in (few, many)),
        *(_number(_median(known, key), "{:.1e}") for key in ("difference", "difference_inside")),
        _number(_median(known, "class_differs"), "{:.2%}"),
        _survival(known.get("kill")),
    ]


def _timings(known: Known) -> list[Mapping[str, Any]]:
    return [one for what, one in known.items() if what.startswith("time ") and "failed" not in one]


def _median(known: Known, key: str) -> float | None:
    found = [timing[key] for timing in _timings(known) if timing[key] is not None]
    return median(found) if found else None


def _ratio(speed: float | None, other: float | None) -> float | None:
    return speed / other if speed and other else None


def _number(value: float | None, how: str) -> str:
    return "-" if value is None else how.format(value)


def _survival(kill: Mapping[str, Any] | None) -> str:
    if kill is None:
        return "no output on disk"
    if "failed" in kill:
        return "not measured"
    word = "yes" if kill["same_result"] and kill["kept_after"] else "no"
    if not kill["written_before"]:
        return "killed before anything was written"
    return f"{word} ({kill['kept_after']} of {kill['written_before']}, {kill['share_of_a_whole_run']:.0%})"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
