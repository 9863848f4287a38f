"""Bodies of requests are small, and what is larger is refused before it is held in memory."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def limit_body(app: ASGIApp, most_bytes: int) -> ASGIApp:
    """Wrap an application of FastAPI so that a request with a larger body is answered with 413.

    What a client says of the length is not believed: bytes are counted as they come, and no more are read.

    Parameters
    ----------
    app : ASGIApp
        The application.
    most_bytes : int
        Largest body.

    Returns
    -------
    ASGIApp
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most_bytes:
                raise HTTPException(413, f"a request holds {most_bytes} bytes at most", {"Connection": "close"})
            return message

        await app(scope, counted, send)

    return limited
