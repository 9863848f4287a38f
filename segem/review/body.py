"""Bodies of requests are small, and what is larger is refused before it is held in memory."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _TooLargeError(Exception):
    pass


def limit_body(app: ASGIApp, most_bytes: int) -> ASGIApp:
    """Wrap an application so that a request with a larger body is answered with 413.

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
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        taken, begun = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most_bytes:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app(scope, counted, noted)
        except _TooLargeError:
            if not begun:
                refusal = PlainTextResponse(f"A request holds {most_bytes} bytes at most.", 413, {"Connection": "close"})
                await refusal(scope, receive, send)

    return limited
