"""The short form of fuzz.py, and random text where a user writes it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fuzz import fuzz, junk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lop.config import override, parse_override, read_file
from lop.plan import resolve
from lop.utils.errors import UserError

quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
plain = {"benchmark": "permuted_digits", "optimizer": "sgd", "algos": ["sdp"]}


def refusal(attempt: Callable[[], object]) -> str | None:
    """What a refused attempt says, in one line; None when it is fine. Any other exception is a failure."""
    try:
        attempt()
    except UserError as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1
    return message


def test_random_configs_run_or_are_refused(tmp_path):
    counts, _ = fuzz(60, 0, tmp_path)
    assert counts["tried"] == 60
    assert counts["ran"] >= 10
    assert counts["refused"] >= 10


@quick
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode(errors="replace")))
@example(b"2026-99-99")
@example(b"a: &a [*a]")
@example(b"[" * 5000)
@example(b'{"a": ' * 5000)
@example(b"{1: 2, null: 3}")
@example(b"\xff\xfe")
@example(b"!!python/object/apply:os.system [echo]")
def test_any_bytes_in_a_config_file(tmp_path, content):
    for suffix in (".json", ".yml"):
        path = Path(tmp_path) / f"config{suffix}"
        path.write_bytes(content)
        message = refusal(lambda path=path: read_file(path))
        if message is None:
            refusal(lambda path=path: resolve(read_file(path)))
        else:
            assert str(path) in message


@quick
@given(st.text(max_size=12), st.text(max_size=12))
@example("optimizer.lr", "2026-99-99")
@example("algos.0.gamma", "[[[")
@example("algos.0", "1e-3")
@example("algos", "{}")
@example("", "")
@example("run", "1")
@example("benchmark", "[1]")
@example("net.hidden.0", "1e400")
def test_any_text_behind_set(key, value):
    refusal(lambda: resolve(override(plain, *parse_override(f"{key}={value}"))))


@quick
@given(junk, st.sampled_from(["benchmark", "net", "optimizer", "algos", "metrics", "run"]))
def test_anything_as_a_section(tmp_path, value, section):
    data = {**plain, section: value}
    path = Path(tmp_path) / "config.json"
    path.write_text(json.dumps(data))
    assert section in (refusal(lambda: resolve(read_file(path))) or section)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10**5000, "optimizer.lr: too large a number, got a huge number"),
        (yaml.safe_load("2026-01-01"), "optimizer.lr: expected a number, text, list or mapping, got date"),
        ("a\x00b", "optimizer.lr: not a valid text"),
        ("x" * 10**5, "optimizer.lr: "),
    ],
    ids=["digits", "date", "nul", "long"],
)
def test_what_no_option_means(value, words):
    with pytest.raises(UserError) as error:
        resolve({**plain, "optimizer": {"name": "sgd", "lr": value}})
    assert str(error.value).startswith(words)
    assert len(str(error.value)) < 300
