"""Finds the sections of a volume that a model has used, by the digests on its card, even if the stack has grown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from segem.geometry import Box, Range, grid
from segem.io.blocks import read_block
from segem.io.volume import Volume

DIGEST_DIGITS = 16
"""Hexadecimal digits of a section's digest: with a million sections, the chance that any two agree is 3e-8."""


def digests_of(attributes: Mapping[str, Any], sections: Range) -> tuple[str, ...]:
    """Return the digests of some sections of a volume; empty where it was ingested without labels."""
    return tuple(attributes.get("section_digests", ())[slice(*sections)])


def compute_digests(volume: Volume, sections: Iterable[int]) -> tuple[str, ...]:
    """Return the digests of a volume that was ingested without labels, as ingest takes them; empty for other sections.

    Raises
    ------
    WorkspaceError
        When one of the sections is missing or damaged on disk.
    """
    depth, height, width = volume.shape
    digests, rows = [""] * depth, volume.write_block[1]
    for z in sections:
        digest = hashlib.sha256()
        for _, box in grid((1, height, width), (1, rows, width)):
            moved = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
            voxels = read_block(volume.raw, moved, "ingest the volume again")
            digest.update(np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<")).data)
        digests[z] = digest.hexdigest()[:DIGEST_DIGITS]
    return tuple(digests)


def find_seen_sections(
    used: Mapping[str, Any], part: Literal["train", "validation"], attributes: Mapping[str, Any]
) -> list[Range]:
    """Return which sections of a volume are those that a model has used.

    An unchanged stack is recognised by its digest. Otherwise sections are compared one by one, so a stack that has
    grown, was cropped in z or was reassembled is recognised too; one whose intensities were changed, or that was
    cropped in y or x, is not.

    Parameters
    ----------
    used : mapping of str to object
        What a card says of one volume: ``source_digest``, ``train``, ``validation`` and the digests of their sections.
    part : {"train", "validation"}
        What they were used for.
    attributes : mapping of str to object
        Of the volume.

    Returns
    -------
    list of (int, int)
        Half-open, in order, none adjacent to another.

    Examples
    --------
    >>> used = {"source_digest": "whole", "train": (0, 2), "train_digests": ("a", "b")}
    >>> find_seen_sections(used, "train", {"source_digest": "whole"})
    [(0, 2)]
    >>> find_seen_sections(used, "train", {"source_digest": "other", "section_digests": ["x", "a", "b", "", "b"]})
    [(1, 3), (4, 5)]
    """
    return match_sections(used["source_digest"], used[part], used[f"{part}_digests"], attributes)


def match_sections(
    source_digest: str, sections: Range, section_digests: Iterable[str], attributes: Mapping[str, Any]
) -> list[Range]:
    """Return which sections of a volume have the given digests; see `find_seen_sections`."""
    first, stop = sections
    if source_digest == attributes.get("source_digest"):
        return [(first, stop)] if first < stop else []
    # A section of a single intensity has no digest, since it holds no tissue.
    known = set(section_digests) - {""}
    return merge_ranges((z, z + 1) for z, digest in enumerate(attributes.get("section_digests", ())) if digest in known)


def merge_ranges(ranges: Iterable[Range]) -> list[Range]:
    """Return half-open ranges in order, with those that overlap or touch joined.

    Examples
    --------
    >>> merge_ranges([(11, 18), (2, 18), (0, 1), (20, 22)])
    [(0, 1), (2, 18), (20, 22)]
    """
    joined: list[Range] = []
    for first, stop in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((first, stop))
    return joined
