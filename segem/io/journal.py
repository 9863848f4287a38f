"""How a SQLite file keeps what is not written yet, chosen also while others open the same file."""

from __future__ import annotations

import sqlite3
import time
from typing import Literal

_PAUSE_S = 0.01


def set_journal(db: sqlite3.Connection, mode: Literal["WAL", "DELETE"], patience_s: float) -> None:
    """Choose the journal of a database; others may do so at the same time.

    Parameters
    ----------
    db : sqlite3.Connection
        Outside of a transaction.
    mode : {"WAL", "DELETE"}
        Changes go to a file of their own first; or what they replace does.
    patience_s : float
        How long to wait for others.

    Raises
    ------
    sqlite3.Error
        When others hold the file longer than that, or the disk refuses.

    Examples
    --------
    >>> db = sqlite3.connect("")
    >>> set_journal(db, "DELETE", patience_s=1)
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            db.execute(f"PRAGMA journal_mode={mode}")
        except sqlite3.OperationalError as error:
            # Where two switch a new file at once, SQLite refuses one of them without waiting as it does elsewhere.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
