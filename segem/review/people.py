"""The routes of several people at one review: who does what, how far they are, and where two of them do not agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from segem.io.readings import TwoReadings, list_readings
from segem.io.reviewers import list_reviewers
from segem.records.base import Record
from segem.records.review import Draft, Place
from segem.review.asked import Id, Person, Seconds, pack_bits
from segem.review.pictures import no_such
from segem.review.progress import find_progress, list_decisions
from segem.review.session import Review
from segem.review.volumes import place_of

LONGEST_HOURS = 24 * 14


class Claimed(Record):
    """Regions that somebody keeps for themselves, or gives to another person."""

    id: Id
    places: Annotated[tuple[Place, ...], Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(max_length=80)]
    hours: Annotated[int, Field(ge=0, le=LONGEST_HOURS)]
    """For how long; 0 lets go of them."""


class Verdict(Record):
    """Which of two readings a third person takes."""

    id: Id
    place: Place
    take: Literal["first", "second"]
    active_seconds: Seconds = 0.0


def add_people(app: FastAPI, review: Review) -> None:
    """Add the routes of several people to those of a review."""

    @app.get("/api/progress/{volume}")
    def show_progress(person: Person, volume: str, drawn: bool = False) -> dict[str, Any]:
        return find_progress(review, person, volume, list_reviewers(review.log), drawn=drawn).model_dump()

    @app.post("/api/claims")
    def claim(sent: Claimed, person: Person) -> Response:
        if sent.name not in {person, *list_reviewers(review.log)}:
            raise no_such("person")
        volume = sent.places[0].volume
        known = {place_of(one) for one in review.listed(volume)}
        decided = list_decisions(review, person, volume)
        if not known.issuperset(sent.places):
            raise no_such("region")
        until = (datetime.now(UTC) + timedelta(hours=sent.hours)).isoformat(timespec="milliseconds")
        drafts = [
            Draft(id=f"{sent.id}-{k}", kind="claim", place=place, detail={"name": sent.name, "until": until})
            for k, place in enumerate(sent.places)
            if place not in decided
        ]
        if drafts:
            review.log.append_all(drafts, person, 0, review.volume(volume).read, lambda: ())
        return JSONResponse({"claimed": len(drafts), "until": until}, 201)

    @app.get("/api/disagreements/{volume}")
    def show_disagreements(person: Person, volume: str) -> list[dict[str, Any]]:
        return [
            {
                "place": one.place.model_dump(),
                "decisions": [each.detail["decision"] for each in (one.first, one.second)],
            }
            for one in _list_open(review, person, volume)
        ]

    @app.get("/api/readings/{which}/{volume}/{z}/{y}/{x}")
    def show_reading(
        person: Person, which: Literal["first", "second"], volume: str, z: int, y: int, x: int
    ) -> Response:
        found = _find_open(review, person, volume, (z, y, x))
        return pack_bits(found.masks[which == "second"])

    @app.post("/api/verdicts")
    def decide_between(sent: Verdict, person: Person) -> Response:
        place = sent.place
        found = _find_open(review, person, place.volume, (place.z, place.y, place.x))
        second, seconds = sent.take == "second", sent.active_seconds
        review.take_reading(found, sent.id, person, second=second, active_seconds=seconds)
        return JSONResponse({"taken": sent.take}, 201)


def _list_open(review: Review, person: str, volume: str) -> list[TwoReadings]:
    """Return the readings that a person has no part in, and about which somebody has to decide."""
    readings = list_readings(review.log, volume, review.volume(volume).read)
    return [
        one
        for one in readings
        if one.verdict is None and person not in {one.first.author, one.second.author} and one.differs
    ]


def _find_open(review: Review, person: str, volume: str, corner: tuple[int, int, int]) -> TwoReadings:
    for one in _list_open(review, person, volume):
        if (one.place.z, one.place.y, one.place.x) == corner:
            return one
    raise HTTPException(404, "nothing to decide here")
