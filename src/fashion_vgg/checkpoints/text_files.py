"""Reads small text files that anyone may have written, without a hang, a crash or more memory than a file takes.

A missing file is None; whatever else is wrong with one raises `RecordError`.
"""

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fashion_vgg.errors import UserError, printable

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 10_000
"""Limits of a YAML or JSON file: a hundred times as many as the configuration of a training has."""

_MAX_REASON = 200  # characters


class RecordError(UserError):
    """A file cannot be read; the message is one line that names it and the reason."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(printable(f"{path} cannot be read: {str(reason)[:_MAX_REASON]}."))


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str | None:
    """The content of a regular file; None if nothing has its name."""
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecordError(path, "it is not a regular file")
            if status.st_size > max_bytes:
                raise RecordError(path, f"it has {status.st_size:,} bytes, more than {max_bytes:,}")
            return file.read(max_bytes).decode()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise RecordError(path, "the link leads nowhere") from error
        return None
    except OSError as error:
        raise RecordError(path, error.strerror) from error
    except UnicodeDecodeError as error:
        raise RecordError(path, "it is not text in UTF-8") from error


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a FIFO would wait for its writer


def read_json(path: Path) -> Any:
    """The content of a JSON file, whose numbers are finite; None if nothing has its name."""
    if (text := read_text(path)) is None:
        return None
    try:
        content = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RecordError(path, f"it is not JSON ({error})") from error
    return _not_none(path, content)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file of texts; None if nothing has its name."""
    if (text := read_yaml_text(path)) is None:
        return None
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # values with a tag raise many types
        raise RecordError(path, f"it is not YAML ({_reason(error)})") from error
    return _not_none(path, content)


def read_yaml_text(path: Path, loader: Any = yaml.SafeLoader) -> str | None:
    """The text of a YAML file that has been checked by `check_size`; None if nothing has its name."""
    if (text := read_text(path)) is None:
        return None
    try:
        check_size(path, text, loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise RecordError(path, f"it is not YAML ({_reason(error)})") from error
    return text


def check_size(path: Path, text: str, loader: Any = yaml.SafeLoader) -> None:
    """Raise `RecordError` for YAML that is too deep or too large, also for what its aliases expand to.

    It is measured by the events of the parser, which neither build nor expand anything. The default loader parses as
    OmegaConf does. Errors of the parser are raised as they are.
    """
    anchors: dict[str | None, _Node] = {}
    opened = [_Node()]
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchors[event.anchor] = _Node(nodes=math.inf)  # an alias inside its own node never ends
            opened.append(_Node(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            _add(opened, anchors, opened.pop())
        elif isinstance(event, yaml.ScalarEvent):
            _add(opened, anchors, _Node(event.anchor))
        elif isinstance(event, yaml.AliasEvent):
            _add(opened, anchors, anchors.get(event.anchor, _Node()))
        if len(opened) + opened[-1].levels > MAX_DEPTH or opened[-1].nodes > MAX_NODES:
            limits = f"{MAX_DEPTH} levels or {MAX_NODES:,} values"
            raise RecordError(path, f"with its aliases expanded it has more than {limits}")


@dataclass
class _Node:
    """A node of a YAML file; ``nodes`` and ``levels`` are those below it and its own, with its aliases expanded."""

    anchor: str | None = None
    nodes: float = 1
    levels: int = 1


def _add(opened: list[_Node], anchors: dict[str | None, _Node], node: _Node) -> None:
    anchors[node.anchor] = node
    parent = opened[-1]
    parent.nodes += node.nodes
    parent.levels = max(parent.levels, node.levels + 1)


def _not_none(path: Path, content: Any) -> Any:
    if content is None:
        raise RecordError(path, "it is empty")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def _reason(error: Exception) -> str:
    """What is wrong with a YAML file, and in which line, if the error says it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    reason = problem or str(error).partition("\n")[0] or type(error).__name__
    return f"{reason} in line {mark.line + 1}" if mark else reason
