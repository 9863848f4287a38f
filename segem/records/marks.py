"""What a reader of a report says about its sections, ``marks.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.config import Name
from segem.records.base import Record

Judgement = Literal["good", "bad", "unsure"]


class SectionMark(Record):
    """What a reader says about one section."""

    volume: Name
    section: int = Field(ge=0)
    mark: Judgement | None = None
    """None where there is a note alone."""
    note: str = Field(default="", max_length=2000)


class Marks(Record):
    """The content of ``marks.json``, as the page of a report saves it."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: Name
    digest: str
    """That of the report (`Report.digest`): marks are of these results and no others."""
    marks: tuple[SectionMark, ...]

    def merge(self, newer: Marks) -> Marks:
        """Return both, a section that was marked twice as it was marked last, and none that was left empty then.

        Examples
        --------
        >>> first = Marks(run="r", digest="d", marks=(SectionMark(volume="a", section=1, mark="bad"),))
        >>> later = Marks(run="r", digest="d", marks=(SectionMark(volume="a", section=1, mark="good"),))
        >>> first.merge(later).marks[0].mark
        'good'
        >>> first.merge(Marks(run="r", digest="d", marks=(SectionMark(volume="a", section=1),))).marks
        ()
        """
        both = {(one.volume, one.section): one for one in (*self.marks, *newer.marks)}
        return newer.model_copy(update={"marks": tuple(one for _, one in sorted(both.items()) if one.mark or one.note)})
