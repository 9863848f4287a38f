"""Which kind of file system a folder lies on: locks of the kernel and SQLite's shared memory end at the host."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

SHARED = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "CIFS",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x00C36400: "Ceph",
    0x5346414F: "AFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0xAAD7AAEA: "PanFS",
    0x01021997: "9P",
    # Of all that is mounted by a program: sshfs and GlusterFS are shared, others only may be.
    0x65735546: "FUSE",
}
"""Names of file systems that other hosts may have mounted too, by the number that Linux knows them by (statfs)."""


def shared_kind(folder: Path) -> str | None:
    """Return the kind of file system that a folder lies on, where other hosts may write there too; else None.

    Parameters
    ----------
    folder : Path
        It exists.

    Raises
    ------
    OSError
        When it does not, or may not be read.

    Examples
    --------
    >>> shared_kind(Path("/proc")) is None
    True
    """
    return SHARED.get(magic_of(folder))


def magic_of(folder: Path) -> int:
    """Return the number by which Linux knows a kind of file system; 0 where the system cannot tell."""
    statfs = getattr(ctypes.CDLL(None, use_errno=True), "statfs", None)
    if statfs is None:
        return 0
    # Longer than the structure, which begins with the number that is asked for; Python has no call for it.
    found = (ctypes.c_long * 64)()
    if statfs(os.fsencode(folder), found) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
    return int(found[0]) & 0xFFFFFFFF
