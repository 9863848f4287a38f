"""Runs the blocks of a plan; one engine a file, and every engine gives the same bytes."""
