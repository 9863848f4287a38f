"""YAML means what is written there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from segem.config import load_manifest
from segem.config.yaml_text import read_yaml
from segem.errors import ConfigError

MANIFEST = """\
name: m
volumes:
  - name: a
    source: a.tif
    voxel_nm: [50, 4, 4]
    labels: {{source: b.tif, membrane: {}}}
"""
# PyYAML folds other line breaks itself.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@pytest.mark.parametrize("text", ["no", "off", "yes", "on", "No", "n", "010", "1_000", "50:4:4", "2026-11-28", "1e3"])
def test_what_only_looks_like_another_type_stays_as_it_is_written(text: str) -> None:
    assert read_yaml(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-12", -12),
        ("0", 0),
        ("+3", 3),
        ("4.6", 4.6),
        ("1.5e+3", 1500.0),
        (".5", 0.5),
        ("-2.", -2.0),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("'true'", "true"),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_numbers_truth_values_and_nothing_are_read(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=5))
@example(["1e3", "1.0e5", "+.5", "010", "no", "2026-11-28", "<<", "~", "=", "1_0", "0x1", "1:2", "-", "#"])
def test_what_is_dumped_is_read_back(value: object) -> None:
    assert read_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nname: b\n", "the key name is given twice, before in line 1, in line 2"),
        ("name: {a: 1, b: 2, 'a': 3}", "the key a is given twice, before in the same line, in line 1"),
        ("a: [{b: 1}, {b: 1,\n b: 1}]", "the key b is given twice, before in line 1, in line 2"),
        ("a:\n\tb: 1\n", r"use spaces, not tabs\), in line 2"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: b: c", "mapping values are not allowed here, in line 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_yaml(text)


def test_merged_keys_are_not_given_twice() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {<<: *x, b: 3}\nz: {<<: *y, a: 4}"
    assert read_yaml(text) == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 4, "b": 3}}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("no", "found 'no'"),
        ("off", "found 'off'"),
        ("yes", "found 'yes'"),
        ("on", "found 'on'"),
        ("²", "must be zero, nonzero, borders, a whole number or several of them, as 0,32,64; found '²'"),
        ("'٣'", "found '٣'"),
        ("1_000", "found '1_000'"),
        ("0:32", "found '0:32'"),
        ("0.5", "found 0.5"),
        ("[]", "must be zero, nonzero"),
        ("[[0]]", "must be zero, nonzero"),
        ("18446744073709551616", "no pixel can hold 18446744073709551616"),
        ("-9223372036854775809", "no pixel can hold -9223372036854775809"),
    ],
)
def test_only_values_that_are_meant_are_membrane(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MANIFEST.format(written), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_manifest(file)
    assert f"{file}: volumes.0.labels.membrane: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("written", "membrane"),
    [
        ("zero", "zero"),
        ("255", 255),
        ("'255'", 255),
        ("010", 10),
        ("-1", -1),
        ("[0, 32, 64, 96, 32]", (0, 32, 64, 96)),
        ("'0, 32'", (0, 32)),
        ("[7]", 7),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_values_that_mean_membrane_are_read(tmp_path: Path, written: str, membrane: object) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MANIFEST.format(written), encoding="utf-8")
    labels = load_manifest(file).volumes[0].labels
    assert labels is not None
    assert labels.membrane == membrane
    assert load_manifest(file) == load_manifest(file).model_validate(load_manifest(file).model_dump(mode="json"))


def test_a_key_given_twice_is_refused_by_its_name_and_line(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MANIFEST.format("zero") + "    source: c.tif\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the key source is given twice, before in line 4, in line 7"):
        load_manifest(file)


def test_a_voxel_size_with_colons_is_no_number_to_the_base_of_60(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MANIFEST.format("zero").replace("[50, 4, 4]", "50:4:4"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"volumes\.0\.voxel_nm: must be a list; found '50:4:4'"):
        load_manifest(file)


def test_a_name_that_looks_like_a_date_or_number_is_a_name(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("name: 2026-11-28\nvolumes:\n  - {name: 007, source: a, voxel_nm: [50, 4, 4]}\n", encoding="utf-8")
    assert (load_manifest(file).name, load_manifest(file).volumes[0].name) == ("2026-11-28", "007")
    file.write_text("name: 28\nvolumes:\n  - {name: a, source: a, voxel_nm: [50, 4, 4]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="name: must be text, in quotes where it looks like a number; found 28"):
        load_manifest(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [("channel", True), ("voxel_nm", [50, True, 4]), ("membrane", False), ("membrane", [0, True]), ("ignore", True)],
)
def test_true_is_no_number_anywhere(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "m.yaml"
    labels: dict[str, object] = {"source": "b", "membrane": "zero"}
    entry: dict[str, object] = {"name": "a", "source": "a", "voxel_nm": [50, 4, 4], "labels": labels}
    (labels if key in ("membrane", "ignore") else entry)[key] = value
    file.write_text(yaml.safe_dump({"name": "m", "volumes": [entry]}), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"volumes\.0.*: {key} must not be true or false"):
        load_manifest(file)


@pytest.mark.parametrize(
    "text",
    [
        "{source: a, box: :3,:,:}",
        "{source: a, box: 0:3,0:50,0:50}",
        "{source: a, box: 0:3,0:50,0:60}",
        "source: a\nbox: 0:3,:,:",
    ],
)
def test_a_box_without_quotes_is_refused_with_the_quotes(text: str) -> None:
    with pytest.raises(ValueError, match=r'a box needs quotes.*box: "0:10,:,:"'):
        read_yaml(text)


@pytest.mark.parametrize("text", ['{box: "0:3,:,:"}', "box: '0:3,:,:'"])
def test_a_box_in_quotes_is_read(text: str) -> None:
    assert read_yaml(text) == {"box": "0:3,:,:"}
