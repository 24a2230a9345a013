"""Files and values that a user writes: read as meant, or refused at once, in one line with the place."""

import os
import time

import pytest

from lop.config import read_file
from lop.utils.documents import MAX_BYTES, MAX_VALUES, parse_value, read_document
from lop.utils.errors import UserError


def written(folder, content, suffix=".yml"):
    path = folder / f"config{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        read_document(path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert len(message) <= 320
    return message


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ("0x10", 16),
        ("0o17", 15),
        ("0b1", "0b1"),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ('"1"', "1"),
        ("[1, {a: 2.}]", [1, {"a": 2.0}]),
        ("é²", "é²"),
    ],
)
def test_values_mean_what_yaml_1_2_says(text, value):
    parsed = parse_value(text, "--set a")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["010", "-007", "00.5"])
def test_numbers_that_two_versions_read_differently_are_refused(text):
    with pytest.raises(UserError, match="begins with 0"):
        parse_value(text, "--set a")


@pytest.mark.parametrize(
    ("suffix", "content", "where"),
    [
        (".yml", "net:\n  name: mlp\n  hidden: [1]\n  name: cnn\n", "line 4: net.name: given twice (before in line 2)"),
        (
            ".yml",
            "algos:\n  - {name: sdp}\n  - {name: cbp, decay: 1,\n     decay: 2}\n",
            "line 4: algos.1.decay: given",
        ),
        (".json", '{"net": 1,\n "run": {},\n "net": 2}', "line 3: net: given twice (before in line 1)"),
        (
            ".json",
            '{"a": [0, {"b": "}{,:",\n "c": {"b": 1},\n "b": 2}]}',
            "line 3: a.1.b: given twice (before in line 1)",
        ),
        (".json", '{"\\u0061": 1, "a": 2}', "line 1: a: given twice"),
    ],
)
def test_keys_that_are_given_twice(tmp_path, suffix, content, where):
    assert where in refusal(written(tmp_path, content, suffix))


def test_equal_keys_in_different_objects_are_fine(tmp_path):
    content = '{"a": {"name": "a", "b": [{"name": 1}, {"name": 2}]}, "name": "name"}'
    assert read_document(written(tmp_path, content, ".json"))["a"]["b"][1]["name"] == 2
    assert read_document(written(tmp_path, content)) == read_document(written(tmp_path, content, ".json"))


def test_aliases_are_unfolded_within_bounds(tmp_path):
    assert read_document(written(tmp_path, "a: &a [1, 2]\nb: [*a, *a]\n"))["b"] == [[1, 2], [1, 2]]
    assert f"more than {MAX_VALUES:,} values" in refusal(written(tmp_path, bomb(60)))
    assert "nested too deeply" in refusal(written(tmp_path, "a: &a [*a]"))


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".yml", "[" * 10**5, "nested too deeply"),
        (".json", "[" * 10**5, "nested too deeply"),
        (".yml", "a: " + "x" * MAX_BYTES, "larger than"),
        (".json", " " * (MAX_BYTES + 1), "larger than"),
        (".yml", "a: 1\nb: \x00", "not valid YAML"),
        (".yml", b"a: 1\nb: \xff\xfe", "line 2: not a text in UTF-8"),
        (".yml", "1: a", "keys must be text"),
        (".yml", "? [a]\n: 1", "keys must be text"),
        (".yml", "a: !!python/object/apply:os.system [echo]", "tags such as"),
        (".yml", 'a: "\\UFFFFFFFF"', "no such character"),
        (".yml", "a: " + "9" * 5000, "too large a number"),
        (".json", '{"a": ' + "9" * 5000 + "}", "a huge number"),
        (".yml", "a: 1\n---\nb: 2", "line 2: not valid YAML"),
        (".json", '{"a": 1,\n oops}', "line 2: not valid JSON"),
    ],
)
def test_what_is_no_config(tmp_path, suffix, content, words):
    assert words in refusal(written(tmp_path, content, suffix))


def test_a_byte_order_mark_is_left_out(tmp_path):
    assert read_document(written(tmp_path, "\ufeffnet: mlp")) == {"net": "mlp"}
    assert read_document(written(tmp_path, '\ufeff{"net": "mlp"}', ".json")) == {"net": "mlp"}


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.yml")
    started = time.monotonic()
    assert "not a regular file" in refusal(tmp_path / "fifo.yml")  # an open without O_NONBLOCK would never return
    assert "not a regular file" in refusal("/dev/zero")
    assert time.monotonic() - started < 60
    assert "directory" in refusal(tmp_path).lower()
    assert "not a path" in refusal("a\0b")
    assert "too long" in refusal("x" * 5000)
    with pytest.raises(UserError, match="not a path"):
        read_file(7)
