"""Limits: sizes are checked before reading, and messages quote content of files safely."""

import json
import os

import pytest

from unbraid import limits
from unbraid.errors import ConfigError, DataError, FormatError, quoted


def test_override_holds_inside_its_block_only():
    before = limits.current()
    with limits.override(json_bytes=10), limits.override(layers=3):
        assert (limits.current().json_bytes, limits.current().layers) == (10, 3)
    assert limits.current() is before


@pytest.mark.parametrize("changes", [{"json_bites": 3}, {"json_bytes": 0}, {"json_bytes": True}, {"json_bytes": 1.5}])
def test_override_refuses_unknown_fields_and_values(changes):
    with pytest.raises(ConfigError), limits.override(**changes):
        pass


def test_read_regular_reads_up_to_the_limit(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b"x" * 100)
    with limits.override(json_bytes=100):
        assert limits.read_regular(file, "json_bytes") == b"x" * 100
    with limits.override(json_bytes=99), pytest.raises(FormatError, match="100 bytes, above the limit of 99"):
        limits.read_regular(file, "json_bytes")


def test_read_regular_refuses_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("pipe", "zero", ".", "missing", "nul\0", "n" * 300):
        with pytest.raises(DataError):
            limits.read_regular(tmp_path / name, error=DataError)
    assert limits.read_regular(tmp_path / "link") == b"x"
    with pytest.raises(FormatError, match="symbolic link"):
        limits.read_regular(tmp_path / "link", follow=False)


def test_expansion_is_free_up_to_a_size():
    with limits.override(expansion=10, free_bytes=1000):
        limits.check_expansion(1000, 0, "here")
        limits.check_expansion(5000, 500, "here")
        with pytest.raises(FormatError, match="here: 100 stored bytes declare 1001"):
            limits.check_expansion(1001, 100, "here")


@pytest.mark.parametrize(
    "content", [b"\xff", b"{", b"1" * 5000, b"[" * 100_000, b"[" * 150 + b"]" * 150], ids=lambda c: str(c[:4])
)
def test_parse_json_raises_one_kind_of_error(content):
    with pytest.raises(FormatError, match="here"):
        limits.parse_json(content, "here")


def test_parse_json_reads_what_json_reads():
    value = {"a": [1, 2.5, None, {"b": "ü"}], "c": []}
    assert limits.parse_json(json.dumps(value), "here") == value
    with limits.override(json_depth=2), pytest.raises(FormatError, match="nested more than 2"):
        limits.parse_json(json.dumps(value), "here")


def test_quoted_is_short_and_cannot_change_the_terminal():
    assert quoted("plain é") == "plain é"
    assert quoted("\x1b[31m\n\ud800") == "\\x1b[31m\\n\\ud800"
    assert len(quoted("\x1b" * 1000)) <= 200
