"""The JSON schema of ``report.json``, for scripts in any language."""

from __future__ import annotations

import json

from segem.records.scores import Report


def schema_file() -> str:
    """Return the schema."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Report.model_json_schema(
        mode="serialization"
    )
    return json.dumps(schema, indent=1) + "\n"
