"""Contingency table: how the pixels of true cells are distributed over the segments of a proposal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segem.errors import InputError


@dataclass(frozen=True)
class Contingency:
    """Pixel counts of one section, over the pixels in true cells only.

    Parameters
    ----------
    joint : ndarray of int64, shape (k,)
        Pixels common to a true cell and a proposed segment, for each of the `k` pairs that meet.
    truth : ndarray of int64
        Pixels of each true cell, boundary lines of the proposal included.
    proposal : ndarray of int64
        Pixels of each proposed segment, as far as they lie in true cells.
    on_lines : int
        Pixels in true cells that lie on a boundary line of the proposal; each counts as a segment of its own.
    """

    joint: NDArray[np.int64]
    truth: NDArray[np.int64]
    proposal: NDArray[np.int64]
    on_lines: int

    @classmethod
    def count(cls, truth: NDArray[np.integer[Any]], proposal: NDArray[np.integer[Any]]) -> Contingency:
        """Count the pixels that two label images have in common.

        Parameters
        ----------
        truth : ndarray of int, shape (y, x)
            True cells, numbered from 1; 0 is membrane and is left out.
        proposal : ndarray of int, shape (y, x)
            Proposed segments, numbered from 1; 0 is a boundary line.

        Returns
        -------
        Contingency

        Raises
        ------
        InputError
            When the shapes differ.

        Examples
        --------
        >>> table = Contingency.count(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 0, 0, 1, 1]]))
        >>> table.joint.tolist(), table.truth.tolist(), table.proposal.tolist(), table.on_lines
        ([1, 2], [2, 2], [3], 1)
        """
        if truth.shape != proposal.shape:
            raise InputError(
                "label images of different shapes cannot be compared",
                expected=truth.shape,
                found=proposal.shape,
                fix="crop them to the same shape",
            )
        inside = truth != 0
        t, s = truth[inside], proposal[inside]
        if t.size == 0:
            none = np.zeros(0, np.int64)
            return cls(none, none, none, 0)
        # Converting to rows of a sparse matrix adds up the ones of equal (cell, segment) pairs.
        table = sparse.coo_array(
            (np.ones(t.size, np.int64), (t, s)), shape=(int(t.max()) + 1, int(s.max()) + 1)
        ).tocsr()
        on_lines = int(np.count_nonzero(s == 0))
        segments = table[:, 1:]
        return cls(
            _occupied(segments.data),
            _occupied(table.sum(axis=1)),
            _occupied(segments.sum(axis=0)),
            on_lines,
        )

    @property
    def pixels(self) -> int:
        """Pixels in true cells."""
        return int(self.truth.sum())


@dataclass(frozen=True)
class FScore:
    """An F-score with its two halves: few mergers give `precision`, few splits give `recall`."""

    value: float
    precision: float
    recall: float


def _occupied(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    flat = np.asarray(counts, np.int64).ravel()
    return flat[flat > 0]
