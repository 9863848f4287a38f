"""What a run is worth: scores, charts and the report."""
