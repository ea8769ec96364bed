"""Words of the command line: Hydra overrides, taken apart and quoted."""

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fashion_vgg.errors import UserError

_SAFE = re.compile(r"(\+{0,2}|~)(?!hydra\b|sweep\b|resume\b)\w(?![^=]*@[^=]*\bhydra\b)[\w./@-]*(=.*)?", re.DOTALL)

_SPECIAL = re.compile(r"[=,\s()\[\]{}:'\"]")
"""Characters with a meaning in Hydra's grammar."""
_UNKNOWN = re.compile(r"[^\w/\\.+$%*@?|-]", re.ASCII)
"""If not special, characters that Hydra's grammar has only within quotes."""
_OUTPUT_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "output_dir", "checkpoint.folder")

FLAGS_WITH_VALUE = (
    *("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-c", "--cfg", "-p", "--package"),
    *("-i", "--info", "--experimental-rerun"),
)
"""The value is the next word, unless it follows an equals sign."""
MULTIRUN = ("-m", "--multirun")
_FLAGS = ("--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun", "--shell-completion")


def key_of(override: str) -> str:
    """The key of an override, without the sign that adds or deletes it."""
    return override.partition("=")[0].lstrip("+~")


def value_of(argv: Sequence[str], key: str) -> str | None:
    """The last value of ``key`` as the shell passes it, without Hydra's quotes; None if the key is not given."""
    values = [word.partition("=")[2] for word in argv if word.startswith(f"{key}=")]
    if not values:
        return None
    value = values[-1]
    # A path may itself begin and end with a quote.
    if not _exists(value) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        # In Hydra's grammar, backslashes are escaped only before the quote and at the end.
        return re.sub(rf"(\\+)({value[0]}|\$\{{|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], value[1:-1])
    return value


def split_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, ``hydra.mode=MULTIRUN`` as ``-m``, and the overrides.

    Raises:
        UserError: a key is written like a flag.
    """
    words, flags, overrides = iter(argv), list[str](), list[str]()
    for word in words:
        key = word.partition("=")[0]
        if key.startswith("--") and key not in (*FLAGS_WITH_VALUE, *_FLAGS):
            raise UserError(f"{key}: write {key[2:]}=<value>, without dashes.")
        if word == "hydra.mode=MULTIRUN":
            flags.append("-m")
        elif not word.startswith("-"):
            overrides.append(word)
        else:
            flags += [word, *itertools.islice(words, word in FLAGS_WITH_VALUE)]
    return flags, overrides


def with_quoted_path(override: str) -> str:
    """Quote a value that Hydra could not parse, such as a path below a folder that is named like a run; expand ``~``.

    Raises:
        UserError: it is a folder for outputs whose name has an interpolation.
    """
    key, equals, value = override.partition("=")
    if not equals:
        return override
    value = os.path.expanduser(value)  # noqa: PTH111 # a shell expands no tilde after a dotted key, and Hydra has none
    parents = (value, *map(str, Path(value).parents))
    below_special = any(_SPECIAL.search(path) and _exists(path) for path in parents)
    if below_special or (_UNKNOWN.search(value) and not _SPECIAL.search(value)):
        value = quoted(value)
    override = f"{key}={value}"
    if key in _OUTPUT_FOLDERS and "\\${" in override:
        check_folder(str(value_of([override], key)))
    return override


def check_folder(folder: str) -> None:
    """Raise UserError if the path of a folder for outputs has an interpolation: Hydra would evaluate it."""
    if "${" in folder:
        raise UserError(f"{folder}: Hydra evaluates ${{...}} in the name of a folder for outputs: use another folder.")


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111 # pathlib raises for a name that is too long


def quoted(value: str) -> str:
    """Any text as a quoted value of Hydra's override grammar, in which ``${`` begins no interpolation."""
    escaped = re.sub(r"(\\+)('|$)", r"\1\1\2", value).replace("'", "\\'")
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    return f"'{escaped}'"


def safe_overrides(words: Any) -> list[str]:
    """The overrides in a list read from a file, without flags, ``resume``, ``sweep.*`` and Hydra's own keys.

    Hydra's own keys can run code, so a file may not set them.
    """
    listed = words if isinstance(words, list) else []
    return [word for word in listed if isinstance(word, str) and _SAFE.fullmatch(word)]


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys and the values of nested dictionaries."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def shown(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
