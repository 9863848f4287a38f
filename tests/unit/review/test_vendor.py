"""The files of others that the page uses are those that they say they are."""

from __future__ import annotations

import hashlib
import json

import pytest

from segem.review.app import FILES, STATIC

VENDOR = STATIC / "vendor"
SOURCES = json.loads((VENDOR / "sources.json").read_text())


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_is_what_its_source_says(name):
    source = SOURCES[name]
    content = (VENDOR / source["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == source["sha256"]
    assert f"{name} {source['version']}".encode() in content[:100]
    assert "Redistribution and use" in (VENDOR / source["licence_file"]).read_text()


def test_every_file_of_others_has_a_source():
    named = {file for source in SOURCES.values() for file in (source["file"], source["licence_file"])}
    assert {path.name for path in VENDOR.iterdir()} == named | {"sources.json"}


def test_the_page_names_only_files_that_are_served():
    page = (STATIC / "index.html").read_text()
    named = {part.partition('"')[0] for part in page.split('"/static/')[1:]}
    assert named <= set(FILES)
    assert {"main.js", "review.css", "openseadragon.min.js"} <= named
