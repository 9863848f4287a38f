"""What all scores of a mask have in common."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.kernels.metrics.not_defined import NotDefined
from segem.kernels.metrics.section import SectionMask
from segem.kernels.truth import UNKNOWN
from segem.stages.reporting.tally import MaskTally, count_mask

TRUTHS = arrays(np.uint8, (8, 10), elements=st.sampled_from([0, 0, 1, 1, UNKNOWN]))
MASKS = arrays(np.uint8, (8, 10), elements=st.integers(0, 1))
ERRORS = ("pixel_error", "adapted_rand_error", "voi_split", "voi_merge", "merges", "splits")


def count(truth, mask, tolerance_nm=4.0) -> MaskTally:
    return count_mask(truth, SectionMask.of_truth(truth, (4.0, 4.0), tolerance_nm), mask)[0]


def compare(one, other):
    for name, value in one.items():
        found = other[name]
        assert value == found if isinstance(value, NotDefined) else value == pytest.approx(found, abs=1e-12), name


@given(TRUTHS, MASKS, MASKS)
def test_what_is_said_where_nothing_is_known_changes_nothing(truth, mask, said):
    other = np.where(truth == UNKNOWN, said, mask).astype(np.uint8)
    compare(count(truth, mask).values(), count(truth, other).values())
    for rows in zip(count(truth, mask).cells.rand, count(truth, other).cells.rand, strict=True):
        assert rows[0] == pytest.approx(rows[1])


@given(TRUTHS, MASKS, st.integers(0, 1))
def test_padding_with_unknown_changes_nothing(truth, mask, said):
    inside = count(truth, mask)
    padded = count(np.pad(truth, 3, constant_values=UNKNOWN), np.pad(mask, 3, constant_values=said))
    compare(inside.values(), padded.values())
    assert inside.cells.rand == pytest.approx(padded.cells.rand)


@given(TRUTHS)
def test_a_mask_that_is_the_truth_is_perfect_or_not_defined(truth):
    for name, value in count(truth, (truth == 1).astype(np.uint8)).values().items():
        perfect = 0 if name in ERRORS else 1
        # Lines of one pixel are a segment by the convention of adapted Rand and VOI, but lie outside of true cells.
        assert isinstance(value, NotDefined) or value == pytest.approx(perfect, abs=1e-12), name


@given(st.lists(st.tuples(TRUTHS, MASKS), min_size=2, max_size=3))
def test_sums_over_sections_do_not_depend_on_their_order(sections):
    tallies = [count(*section) for section in sections]
    forth, back = MaskTally(), MaskTally()
    for one, other in zip(tallies, reversed(tallies), strict=True):
        forth, back = forth + one, back + other
    compare(forth.values(), back.values())
    assert forth.merges == sum(one.merges for one in tallies)
    assert forth.confusion.voxels == sum(int((truth != UNKNOWN).sum()) for truth, _ in sections)


def test_nothing_counted_has_no_score():
    values = MaskTally().values()
    assert all(isinstance(value, NotDefined) for value in values.values())
    assert all(value.why for value in values.values() if isinstance(value, NotDefined))
