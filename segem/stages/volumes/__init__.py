"""Volumes of the workspace: ingested, labelled, made up."""
