"""The model zoo; `registry` builds any of them by name."""
