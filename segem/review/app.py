"""The routes of the review page: files of the page, tiles, the queue, and what reviewers send.

No address holds a path: volumes, pictures and questions are looked up by name or digest in what the review has opened.
Who asks is known by the token, see `segem.guard`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import Field
from starlette.types import ASGIApp

from segem.errors import ConfigError, InputError, SegemError
from segem.io.review_rows import sent_detail
from segem.io.reviews import Appended, Outdated
from segem.records.base import Record
from segem.records.review import LONGEST_NOTE, Answer, Decision, Draft, Place
from segem.review.asked import Id, Person, Seconds, Seen, pack_bits, show_entry
from segem.review.body import limit_body
from segem.review.people import add_people
from segem.review.pictures import TILE_PX
from segem.review.presence import Presence, Where
from segem.review.progress import list_claims, list_decisions
from segem.review.session import Neighbour, Review
from segem.review.threed import add_three_d
from segem.review.volumes import place_of

STATIC = Path(__file__).parent / "static"
FILES = {path.name: path for path in sorted(STATIC.rglob("*")) if path.suffix in {".js", ".css", ".svg"}}
"""What the page is made of; no other file is ever served."""
MOST_BYTES = 2_000_000
"""Of a body: the runs of the largest stroke take less."""
FOR_EVER = "private, max-age=31536000, immutable"
HISTORY = 200


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
    app.exception_handler(RequestValidationError)(_explain_invalid)
    _add_page(app)
    _add_pictures(app, review)
    _add_reading(app, review, Presence(), three_d)
    _add_writing(app, review)
    add_people(app, review)
    if three_d:
        app.include_router(add_three_d(review))
    return app


async def _explain(_: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, InputError | ConfigError) else 500
    return JSONResponse({"detail": str(error)}, status)


async def _explain_invalid(_: Request, error: Exception) -> Response:
    # Without what was sent: it may be large, and bytes that are no text cannot be sent back.
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    return JSONResponse({"detail": "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)}, 422)


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
    def show_tile(person: Person, key: str, level: int, z: int, row: int, column: int) -> Response:
        return _picture(lambda: review.pictures[key].tile(level, z, row, column, review.amend(person, key)))

    @app.get("/crops/{key}/{z}/{y}/{x}/{size}")
    def show_crop(person: Person, key: str, z: int, y: int, x: int, size: int) -> Response:
        return _picture(lambda: review.pictures[key].crop(z, y, x, size, review.amend(person, key)))


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
            "drawn": review.apart.checks.sample > 0,
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
    def show_mask(person: Person, volume: str, level: int, z: int, row: int, column: int) -> Response:
        upto, tile = review.tile(person, volume, level, z, (row, column))
        return pack_bits(tile, upto)

    @app.get("/api/neighbour/{of}/{volume}/{z}/{y}/{x}/{height}/{width}")
    def show_neighbour(
        person: Person, of: Neighbour, volume: str, z: int, y: int, x: int, height: int, width: int
    ) -> Response:
        try:
            place = Place(volume=volume, z=z, y=y, x=x, height=height, width=width)
        except ValueError:
            raise HTTPException(404) from None
        return pack_bits(review.propose(person, place, of))

    @app.get("/api/queue/{volume}")
    def show_queue(person: Person, volume: str, drawn: bool = False) -> list[dict[str, Any]]:
        decided, claimed = list_decisions(review, person, volume), list_claims(review, volume)
        shown = []
        for region in review.regions(volume, drawn=drawn):
            place = place_of(region)
            last = decided.get(place)
            shown.append(
                {
                    "place": place.model_dump(),
                    "priority": region.priority,
                    "reason": region.reason,
                    "decision": last.detail["decision"] if last else None,
                    "note": last.detail["note"] if last else "",
                    "person": last.author if last else None,
                    "claimed": claimed.get(place),
                }
            )
        return shown

    @app.get("/api/questions/{volume}/{z}")
    def show_questions(person: Person, volume: str, z: int) -> list[dict[str, Any]]:
        made = review.entries(person, volume, ("answer",))
        answered = {one.detail["question"]: one.detail["answer"] for one in made}
        return [
            {"key": key, "answer": answered.get(key), **one.model_dump(include={"volume", "z", "y", "x", "ridge"})}
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
            "changes": [show_entry(one) for one in review.changes(person, volume, z, seen)],
            "others": [{"person": one.person, "y": one.y, "x": one.x} for one in others],
        }

    @app.get("/api/history/{volume}")
    def show_history(person: Person, volume: str) -> list[dict[str, Any]]:
        made = review.entries(person, volume)[: -HISTORY - 1 : -1]
        return [
            {**show_entry(one), "runs": [], "detail": sent_detail(one), "changes": one.before is not None}
            for one in made
        ]


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
        entry = review.revert(sent.number, person, sent.id)
        return JSONResponse({"entry": show_entry(entry), "changes": []}, 201)


def _outcome(done: Appended | Outdated) -> Response:
    changes = [show_entry(one) for one in done.others]
    if isinstance(done, Outdated):
        return JSONResponse({"detail": "somebody else has changed this region", "changes": changes}, 412)
    return JSONResponse({"entry": show_entry(done.entry), "changes": changes}, 201)
