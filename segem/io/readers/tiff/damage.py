"""What tifffile and its codecs raise or log, as one error."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from segem.errors import InputError
from segem.io.readers.stack import damaged

# Log lines of tifffile on files that are unusual but intact. Counts of strips are checked here, against the tags.
_HARMLESS = re.compile(
    r"coercing invalid ASCII|GDAL_NODATA|GeoKeyDirectoryTag|<get_resolution>"
    r"|missing (data )?ByteCounts tag|incorrect Strip(ByteCounts|Offsets) count"
)


@contextmanager
def no_damage(where: object) -> Iterator[None]:
    """Raise InputError for anything that tifffile raises or logs while the body runs.

    tifffile repairs what it can and only logs the damage, so that a truncated stack would read as a shorter one.
    """
    logger = logging.getLogger("tifffile")
    heard = _Listener()
    propagate, level = logger.propagate, logger.level
    logger.addHandler(heard)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError("the file cannot be read", where=where, found=error, fix="check the disk") from error
    except Exception as error:
        # tifffile and its codecs raise a dozen unrelated types on damage.
        raise damaged(where, None, cause=error) from error
    finally:
        logger.removeHandler(heard)
        logger.propagate, logger.level = propagate, level
    if heard.messages:
        raise damaged(where, "; ".join(heard.messages))


def unreadable(
    where: object, found: str, fix: str = "export it as plain grey TIFF (Fiji: File > Save As)"
) -> InputError:
    """Return the error for a file that is whole, but of a kind that cannot be read."""
    return InputError("a kind of TIFF that cannot be read", where=where, found=found, fix=fix)


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.thread == self.thread and not _HARMLESS.search(message) and len(self.messages) < 3:
            self.messages.append(message)
