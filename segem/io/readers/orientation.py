"""Files that ask a viewer to turn them: TIFF by a tag, PNG and JPEG by the same one in their Exif metadata."""

from __future__ import annotations

import struct

ORIENTATION, UPRIGHT = 274, 1
"""The tag, and its value where nothing is to be turned."""


def say_turned(where: object) -> str:
    """Return what the user should know of a file that a viewer shows turned."""
    return f"{where}: its orientation tag asks for turned sections; they are read as they are stored"


def warn_of_orientation(where: object, exif: bytes) -> tuple[str, ...]:
    """Return `say_turned` where Exif metadata ask for it.

    Parameters
    ----------
    where : object
        The file, for the message.
    exif : bytes
        Laid out as a TIFF file; empty where there are none.

    Returns
    -------
    tuple of str
        No warning, or one.

    Examples
    --------
    >>> warn_of_orientation("a.png", b"")
    ()
    """
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        entries = [struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * at) for at in range(count)]
    except struct.error:
        # There are none, or they are damaged, which does the pixels no harm.
        return ()
    turned = any(tag == ORIENTATION and value not in (0, UPRIGHT) for tag, _, _, value in entries)
    return (say_turned(where),) if turned else ()
