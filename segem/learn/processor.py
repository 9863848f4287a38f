"""What the processor can multiply in 8 bits, which decides whether a net in 8 bits is worth having."""

from __future__ import annotations

from pathlib import Path

BYTE_UNITS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"})
"""Instructions that multiply and add numbers of 8 bits, as Linux names them: x86 and, the last two, ARM."""
NO_BYTE_UNITS = (
    "the processor has no instructions that multiply in 8 bits (VNNI, AMX), so `--runtime openvino-int8` is hardly "
    "faster than float32 and takes 10 s more to start"
)
_TOLD = Path("/proc/cpuinfo")


def find_byte_units(told: Path = _TOLD) -> tuple[str, ...] | None:
    r"""Return the instructions of this processor that multiply in 8 bits.

    Parameters
    ----------
    told : Path
        Where Linux lists what the processors can do.

    Returns
    -------
    tuple of str or None
        Their names, none where float32 is as fast; None where it cannot be told, as on other systems than Linux.

    Examples
    --------
    >>> listed = getfixture("tmp_path") / "cpuinfo"
    >>> _ = listed.write_text("processor : 0\nflags : fpu avx2 avx_vnni\n")
    >>> find_byte_units(listed)
    ('avx_vnni',)
    """
    try:
        lines = told.read_text().splitlines()
    except OSError:
        return None
    listed = [words.split() for key, _, words in (line.partition(":") for line in lines) if _is_list(key)]
    # Every core, since a thread may run on any.
    return tuple(sorted(BYTE_UNITS.intersection(*listed))) if listed else None


def _is_list(key: str) -> bool:
    return key.strip() in ("flags", "Features")
