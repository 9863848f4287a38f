"""Whether a processor multiplies in 8 bits is read from what Linux lists, and said wherever 8 bits are offered."""

from __future__ import annotations

from pathlib import Path

import pytest

import segem.stages.doctor as doctor_stage
from segem.cli.show import show_speeds
from segem.io.workspace import Workspace
from segem.learn.processor import NO_BYTE_UNITS, find_byte_units
from segem.stages.segmentation.bench import BenchResult


def listed(folder: Path, *cores: str) -> Path:
    told = folder / "cpuinfo"
    told.write_text("".join(f"processor\t: {n}\n{line}\n\n" for n, line in enumerate(cores)))
    return told


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        pytest.param(["flags\t\t: fpu sse4_2 avx2 fma"] * 2, (), id="Zen 3"),
        pytest.param(["flags\t\t: avx2 avx512f avx512_vnni"] * 2, ("avx512_vnni",), id="Zen 4"),
        pytest.param(["flags\t\t: avx512_vnni amx_int8 amx_tile"], ("amx_int8", "avx512_vnni"), id="Sapphire Rapids"),
        pytest.param(["flags\t\t: avx2 avx_vnni", "flags\t\t: avx2"], (), id="one of two cores"),
        pytest.param(["Features\t: fp asimd asimddp"], ("asimddp",), id="ARM"),
        pytest.param(["bogomips\t: 1.0"], None, id="not listed"),
    ],
)
def test_what_every_core_has_counts(cores: list[str], expected: tuple[str, ...] | None, tmp_path: Path) -> None:
    assert find_byte_units(listed(tmp_path, *cores)) == expected


def test_other_systems_do_not_tell(tmp_path: Path) -> None:
    assert find_byte_units(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("units", "state", "text"),
    [
        ((), "note", NO_BYTE_UNITS),
        (("avx_vnni",), "ok", "the processor multiplies in 8 bits (avx_vnni)"),
        (None, "note", "this system does not tell; measure with `segem bench`"),
    ],
)
def test_doctor_and_bench_say_it(
    units: tuple[str, ...] | None,
    state: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor_stage, "find_byte_units", lambda: units)
    (finding,) = (one for one in doctor_stage.doctor(Workspace(tmp_path)) if one.topic == "8 bits")
    assert (finding.state, finding.text) == (state, text)
    show_speeds(BenchResult("tiny", 2, 64, (2, 64, 64), (1.0, 1.0), (), units))
    assert (NO_BYTE_UNITS in capsys.readouterr().out) == (units == ())
