"""The routes of the review page: files of the page, tiles, the queue, and what reviewers send.

No address holds a path: volumes, pictures and questions are looked up by name or digest in what the review has opened.
Who asks is known by the token, see `segem.serving`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import Field
from starlette.types import ASGIApp

from segem.errors import ConfigError, InputError, SegemError
from segem.io.reviews import Appended, Outdated
from segem.records.base import Record
from segem.records.review import LONGEST_NOTE, Answer, Decision, Draft, Entry, Place
from segem.review.body import limit_body
from segem.review.pictures import TILE_PX
from segem.review.presence import Presence, Where
from segem.review.session import Neighbour, Review
from segem.review.threed import add_three_d
from segem.serving import PERSON

STATIC = Path(__file__).parent / "static"
FILES = {path.name: path for path in sorted(STATIC.rglob("*")) if path.suffix in {".js", ".css", ".svg"}}
"""What the page is made of; no other file is ever served."""
MOST_BYTES = 2_000_000
"""Of a body: the runs of the largest stroke take less."""
FOR_EVER = "private, max-age=31536000, immutable"
HISTORY = 200

Id = Annotated[str, Field(pattern=r"^[0-9a-f-]{16,64}$")]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Correction(Record):
    """Pixels that a reviewer has changed."""

    id: Id
    place: Place
    runs: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(max_length=100_000)]
    active_seconds: Seconds = 0.0
    tool: Literal["brush", "eraser", "polygon", "fill", "undo", "redo", "copy", "interpolate", "line", "clear"]


class Decided(Record):
    """What a reviewer thinks of a region."""

    id: Id
    place: Place
    decision: Decision
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""
    active_seconds: Seconds = 0.0


class Answered(Record):
    """What a reviewer says to a question."""

    id: Id
    volume: str
    z: int
    question: str
    answer: Answer
    active_seconds: Seconds = 0.0


class Reverted(Record):
    """Which entry a reviewer takes back."""

    id: Id
    number: Annotated[int, Field(ge=1, lt=2**53)]


def make_app(review: Review, *, three_d: bool = False) -> ASGIApp:
    """Return the application that serves a review; the caller guards it with tokens.

    Parameters
    ----------
    review : Review
        What is reviewed; it is closed when the server ends.
    three_d : bool
        Serve Neuroglancer's page too.

    Returns
    -------
    ASGIApp

    Raises
    ------
    ConfigError
        When Neuroglancer is wanted and not installed.
    """
    return limit_body(make_routes(review, three_d=three_d), MOST_BYTES)


def make_routes(review: Review, *, three_d: bool = False) -> FastAPI:
    """Return the routes of a review, without a limit for what is sent to them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        review.close()

    # Without the pages that describe the routes, which load scripts from elsewhere.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.exception_handler(SegemError)(_explain)
    _add_page(app)
    _add_pictures(app, review)
    _add_reading(app, review, Presence(), three_d)
    _add_writing(app, review)
    if three_d:
        app.include_router(add_three_d(review))
    return app


def _person(request: Request) -> str:
    """Return who asks."""
    person = request.scope.get(PERSON)
    if not person:
        raise HTTPException(401, "nobody is known by this token")
    return str(person)


def _seen(if_match: Annotated[str | None, Header()] = None) -> int:
    """Return the number of the last entry that a page knows of, which it must say with all that it sends."""
    if if_match is None:
        raise HTTPException(428, 'say which entry was seen last, as If-Match: "12"')
    found = re.fullmatch(r'"(\d{1,15})"', if_match)
    if found is None:
        raise HTTPException(400, 'If-Match holds the number of an entry, as "12"')
    return int(found[1])


Person = Annotated[str, Depends(_person)]
Seen = Annotated[int, Depends(_seen)]


async def _explain(_: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, InputError | ConfigError) else 500
    return JSONResponse({"detail": str(error)}, status)


def _add_page(app: FastAPI) -> None:
    @app.get("/")
    def show_page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-store"})

    @app.get("/static/{name}")
    def show_file(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404)
        return FileResponse(FILES[name], headers={"Cache-Control": "no-cache"})


def _add_pictures(app: FastAPI, review: Review) -> None:
    @app.get("/tiles/{key}/{level}/{z}/{row}/{column}")
    def show_tile(key: str, level: int, z: int, row: int, column: int) -> Response:
        return _picture(lambda: review.pictures[key].tile(level, z, row, column))

    @app.get("/crops/{key}/{z}/{y}/{x}/{size}")
    def show_crop(key: str, z: int, y: int, x: int, size: int) -> Response:
        return _picture(lambda: review.pictures[key].crop(z, y, x, size))


def _picture(make: Callable[[], bytes]) -> Response:
    try:
        return Response(make(), media_type="image/png", headers={"Cache-Control": FOR_EVER})
    except KeyError:
        raise HTTPException(404) from None


def _add_reading(app: FastAPI, review: Review, presence: Presence, three_d: bool) -> None:
    @app.get("/api/review")
    def describe(person: Person) -> dict[str, Any]:
        return {
            "run": review.run,
            "person": person,
            "labelling": review.labelling,
            "three_d": three_d,
            "tile_px": TILE_PX,
            "volumes": [
                {
                    "name": held.name,
                    "shape": held.shape,
                    "voxel_nm": held.raw.volume.voxel_size.zyx,
                    "levels": len(held.raw.levels),
                    "raw": held.raw.key,
                    "probability": held.probability and held.probability.key,
                }
                for held in review.volumes.values()
            ],
        }

    @app.get("/api/mask/{volume}/{level}/{z}/{row}/{column}")
    def show_mask(volume: str, level: int, z: int, row: int, column: int) -> Response:
        upto, tile = review.tile(volume, level, z, row, column)
        return _bits(tile, upto)

    @app.get("/api/neighbour/{of}/{volume}/{z}/{y}/{x}/{height}/{width}")
    def show_neighbour(of: Neighbour, volume: str, z: int, y: int, x: int, height: int, width: int) -> Response:
        try:
            place = Place(volume=volume, z=z, y=y, x=x, height=height, width=width)
        except ValueError:
            raise HTTPException(404) from None
        return _bits(review.propose(place, of))

    @app.get("/api/queue/{volume}")
    def show_queue(volume: str) -> list[dict[str, Any]]:
        decided = {one.place: one for one in review.log.entries(("decision",), volume)}
        shown = []
        for region in review.regions(volume):
            place = Place(volume=volume, z=region.z, y=region.y, x=region.x, **_extent(region))
            last = decided.get(place)
            shown.append(
                {
                    "place": place.model_dump(),
                    "priority": region.priority,
                    "reason": region.reason,
                    "decision": last.detail["decision"] if last else None,
                    "note": last.detail["note"] if last else "",
                    "person": last.author if last else None,
                }
            )
        return shown

    @app.get("/api/questions/{volume}/{z}")
    def show_questions(volume: str, z: int) -> list[dict[str, Any]]:
        answered = {one.detail["question"]: one.detail["answer"] for one in review.log.entries(("answer",), volume)}
        return [
            {"key": key, "answer": answered.get(key), **one.model_dump(exclude={"closeness", "consequence"})}
            for key, one in review.questions(volume, z).items()
        ]

    @app.get("/api/changes/{volume}/{z}")
    def show_changes(
        person: Person,
        volume: str,
        z: int,
        page: Annotated[str, Query(max_length=64)],
        y: int = 0,
        x: int = 0,
        seen: Annotated[int, Query(ge=0, lt=2**53)] = 0,
    ) -> dict[str, Any]:
        review.volume(volume)
        others = presence.note(page, Where(person, volume, z, y, x))
        # Taken first: an entry that is added meanwhile is then told twice rather than never.
        head = review.log.head().entries
        return {
            "seen": head,
            "changes": [_shown(one) for one in review.log.changes(volume, z, seen)],
            "others": [{"person": one.person, "y": one.y, "x": one.x} for one in others],
        }

    @app.get("/api/history/{volume}")
    def show_history(volume: str) -> list[dict[str, Any]]:
        review.volume(volume)
        made = list(review.log.entries(volume=volume))[: -HISTORY - 1 : -1]
        return [{**_shown(one), "runs": [], "detail": one.detail, "changes": one.before is not None} for one in made]


def _add_writing(app: FastAPI, review: Review) -> None:
    @app.post("/api/corrections")
    def correct(sent: Correction, person: Person, seen: Seen) -> Response:
        draft = Draft(
            id=sent.id,
            kind="correction",
            place=sent.place,
            runs=sent.runs,
            active_seconds=sent.active_seconds,
            detail={"tool": sent.tool},
        )
        return _outcome(review.append(draft, person, seen))

    @app.post("/api/decisions")
    def decide(sent: Decided, person: Person, seen: Seen) -> Response:
        draft = Draft(
            id=sent.id,
            kind="decision",
            place=sent.place,
            active_seconds=sent.active_seconds,
            detail={"decision": sent.decision, "note": sent.note},
        )
        return _outcome(review.append(draft, person, seen))

    @app.post("/api/answers")
    def answer(sent: Answered, person: Person, seen: Seen) -> Response:
        question = review.questions(sent.volume, sent.z).get(sent.question)
        if question is None:
            raise HTTPException(404, "no such question")
        draft = Draft(
            id=sent.id,
            kind="answer",
            active_seconds=sent.active_seconds,
            detail={"question": sent.question, "answer": sent.answer},
        )
        return _outcome(review.answer(draft, question, person, seen))

    @app.post("/api/reverts")
    def revert(sent: Reverted, person: Person) -> Response:
        made = [one for one in review.log.entries() if one.number == sent.number]
        if not made or made[0].place is None:
            raise HTTPException(404, "no such entry")
        read = review.volume(made[0].place.volume).read
        entry = review.log.revert(sent.number, person, sent.id, read)
        return JSONResponse({"entry": _shown(entry), "changes": []}, 201)


def _outcome(done: Appended | Outdated) -> Response:
    changes = [_shown(one) for one in done.others]
    if isinstance(done, Outdated):
        return JSONResponse({"detail": "somebody else has changed this region", "changes": changes}, 412)
    return JSONResponse({"entry": _shown(done.entry), "changes": changes}, 201)


def _shown(entry: Entry) -> dict[str, Any]:
    return entry.model_dump(include={"number", "id", "time", "author", "kind", "place", "runs", "active_seconds"})


def _extent(region: Any) -> dict[str, int]:
    return {"height": region.height_px, "width": region.width_px}


def _bits(mask: np.ndarray[Any, np.dtype[np.bool_]], upto: int | None = None) -> Response:
    """Return a mask as packed bits, row after row: 32 kB a tile, and exact, which colours of a picture need not be."""
    height, width = mask.shape
    headers = {"Cache-Control": "no-store", "X-Shape": f"{height},{width}"}
    if upto is not None:
        headers["X-Entry"] = str(upto)
    return Response(np.packbits(mask).tobytes(), media_type="application/octet-stream", headers=headers)
