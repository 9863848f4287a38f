"""Tells the results of a run from those of any other."""

from __future__ import annotations

import hashlib
import json

from segem.records.run import AFTERWARDS, RunRecord


def digest_results(record: RunRecord) -> str:
    """Return one sha256 of all that the results of a run were made of: voxels, models, settings and code.

    What merely happened, such as when, on how many cores and at which attempt, is no part of it; nor is what was made
    of the results afterwards.

    Examples
    --------
    >>> run = RunRecord(run="r", created="", segem_version="", environment={})
    >>> digest_results(run) == digest_results(run.model_copy(update={"created": "later"}))
    True
    """
    made = {
        name: {
            one.step: [one.source_digest, one.model and one.model.digest, one.config, one.facts.code, one.state]
            for one in volume.steps.values()
            if one.step not in AFTERWARDS
        }
        for name, volume in record.volumes.items()
    }
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
