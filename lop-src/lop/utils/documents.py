"""Files and values that a user writes in YAML or JSON: read strictly, within bounds, with the line of a mistake.

YAML is that of version 1.2, whose plain scalars are those of JSON and little more: `1:30`, `yes`, `on`, `1_000` and
dates are text. `010`, which version 1.1 reads as 8 and 1.2 as 10, is refused, and so are tags (`!!python/...`), keys
that are no text, keys that are given twice, and aliases that unfold to more than anybody writes.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lop.utils.errors import UserError, shown

MAX_BYTES = 2**18  # of a file: a grid of 10,000 seeds written out needs 60 kB
MAX_VALUES = 100_000  # in a file, aliases unfolded
MAX_DIGITS = 1000  # of an integer
DEPTH = 20  # of lists and mappings in each other; nothing here needs more than five

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + dot: float(sign + "inf") for sign in ("", "+", "-") for dot in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def read_document(path: str | Path, what: str = "config") -> Any:
    """What a file holds, by its suffix JSON or else YAML. what: the file is, for messages.

    Raises UserError for anything but a regular file of UTF-8 text (a byte-order mark is left out) of at most
    `MAX_BYTES`, and, with the line, for what is no valid document.
    """
    where = f"{what} {path}"
    text = _text(path, what)
    return _json(text, where) if str(path).endswith(".json") else _yaml(text, where)


def parse_value(text: str, where: str) -> Any:
    """A value as YAML has it, e.g. behind `--set key=`. Raises UserError, which begins with `where`."""
    return _yaml(text, where)


def plain_scalar(text: str) -> Any:
    """What a word without quotes means: None, a boolean, a number or itself. Raises ValueError for `010`, huge ones."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) or _OTHER_BASE.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError("too large a number")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(f"{text[:40]} begins with 0: leave the 0 out (octal is 0o10), or put a text in quotes")
    return text


def _text(path: str | Path, what: str) -> str:
    where = f"{what} {path}"
    try:
        # a FIFO without a writer is opened at once, and then refused
        number = os.open(os.fspath(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise UserError(f"{where}: not a regular file; give the path of a .json, .yaml or .yml file")
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}; give the path of a .json, .yaml or .yml file") from None
    except UserError:
        raise
    except (ValueError, TypeError):  # NUL in a path, a number for one
        raise UserError(f"{what} {shown(path)}: not a path; give that of a .json, .yaml or .yml file") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{where}: larger than {MAX_BYTES:,} bytes, which is no config; give another file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{where}, line {line}: not a text in UTF-8; save it as one") from None


def _line(where: str, line: int, key: str, reason: str) -> UserError:
    return UserError(": ".join(filter(None, [f"{where}, line {line}", key, reason])))


# ---------------------------------------------------------------------- JSON

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def _json(text: str, where: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _line(where, error.lineno, "", f"not valid JSON ({error.msg})") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise UserError(f"{where}: not valid JSON (a huge number)") from None
    for key, line, first in _repeated_keys(text):
        raise _line(where, line, key, _twice(first))
    return value


def _twice(first: int) -> str:
    return f"given twice (before in line {first}); keep one"


def _repeated_keys(text: str) -> Iterator[tuple[str, int, int]]:
    """(path, line, line of the first) of keys that an object of this valid JSON holds twice."""
    open_parts: list[dict[str, int] | int] = []  # per object its keys with their lines, per list the current index
    path: list[str] = []
    line, read, tokens = 1, 0, list(_TOKEN.finditer(text))
    for i, token in enumerate(tokens):
        is_key = i + 1 < len(tokens) and tokens[i + 1].group() == ":"  # in valid JSON nothing else stands before one
        line, read = line + text.count("\n", read, token.start()), token.start()
        word = token.group()
        if word in ("{", "["):
            open_parts.append({} if word == "{" else 0)
            path.append("" if word == "{" else "0")
        elif word in ("}", "]"):
            open_parts.pop()
            path.pop()
        elif word == "," and isinstance(open_parts[-1], int):
            open_parts[-1] += 1
            path[-1] = str(open_parts[-1])
        elif is_key:
            key, keys = json.loads(word), open_parts[-1]
            assert isinstance(keys, dict)  # in valid JSON only an object has keys
            path[-1] = key
            if key in keys:
                yield ".".join(path), line, keys[key]
            keys[key] = line


# ---------------------------------------------------------------------- YAML


class _Composer(yaml.SafeLoader):
    """Nodes only: `plain`, `quoted`, `list` or `mapping`, unless the document tags them otherwise."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return "plain" if implicit[0] else "quoted"
        return "list" if kind is yaml.SequenceNode else "mapping"


def _yaml(text: str, where: str) -> Any:
    try:
        loader = _Composer(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise _line(where, mark.line + 1 if mark else 1, "", f"not valid YAML ({reason})") from None
    except (ValueError, OverflowError):  # a character beyond Unicode, \UFFFFFFFF
        raise UserError(f"{where}: not valid YAML (no such character)") from None
    return None if node is None else _Values(where).of(node, "", 0)


class _Values:
    """From nodes to plain values, each alias unfolded where it stands."""

    def __init__(self, where: str):
        self.where, self.count = where, 0

    def of(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        if self.count > MAX_VALUES:
            raise _line(self.where, line, "", f"holds more than {MAX_VALUES:,} values (its aliases unfolded)")
        if depth > DEPTH:
            raise _line(self.where, line, "", "nested too deeply")
        if node.tag == "plain":
            try:
                return plain_scalar(node.value)
            except ValueError as error:
                raise _line(self.where, line, path, str(error)) from None
        if node.tag == "quoted":
            return node.value
        if node.tag == "list":
            return [self.of(item, _below(path, str(i)), depth + 1) for i, item in enumerate(node.value)]
        if node.tag == "mapping":
            return self._mapping(node, path, depth)
        raise _line(self.where, line, path, f"tags such as {node.tag[:40]} are not read; leave it out")

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, item in node.value:
            line = key_node.start_mark.line + 1
            key = self.of(key_node, path, depth + 1)
            if not isinstance(key, str):
                raise _line(self.where, line, path, "keys must be text; put it in quotes")
            if key in values:
                raise _line(self.where, line, _below(path, key), _twice(lines[key]))
            lines[key] = line
            values[key] = self.of(item, _below(path, key), depth + 1)
        return values


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
