"""Volumes of the workspace: ingest, labels, and synthetic volumes."""
