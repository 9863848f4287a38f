"""What every request to a review brings, and the forms in which it is answered."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, Header, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import Field

from segem.guard import PERSON, STILL
from segem.records.review import Entry

# Shorter than what the log takes: it numbers the parts of what lies in several regions.
Id = Annotated[str, Field(pattern=r"^[0-9a-f-]{16,56}$")]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def _person(request: Request) -> str:
    person = request.scope.get(PERSON)
    # Its token may have been revoked while the body was on its way.
    if not person or not request.scope[STILL]():
        raise HTTPException(401, "nobody is known by this token")
    return str(person)


def _seen(if_match: Annotated[str | None, Header()] = None) -> int:
    if if_match is None:
        raise HTTPException(428, 'say which entry was seen last, as If-Match: "12"')
    found = re.fullmatch(r'"(\d{1,15})"', if_match)
    if found is None:
        raise HTTPException(400, 'If-Match holds the number of an entry, as "12"')
    return int(found[1])


Person = Annotated[str, Depends(_person)]
"""Who asks."""
Seen = Annotated[int, Depends(_seen)]
"""Number of the last entry that a page knows of, which it must say with all that it sends."""


def show_entry(entry: Entry) -> dict[str, Any]:
    """Return what a page is told of an entry."""
    return entry.model_dump(include={"number", "id", "time", "author", "kind", "place", "runs", "active_seconds"})


def pack_bits(mask: NDArray[np.bool_], upto: int | None = None) -> Response:
    """Return a mask as packed bits, row after row: 32 kB a tile, and exact, which colours of a picture need not be."""
    height, width = mask.shape
    headers = {"Cache-Control": "no-store", "X-Shape": f"{height},{width}"}
    if upto is not None:
        headers["X-Entry"] = str(upto)
    return Response(np.packbits(mask).tobytes(), media_type="application/octet-stream", headers=headers)
