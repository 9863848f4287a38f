"""Scores of a segmentation against truth, one a file."""
