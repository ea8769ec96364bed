"""Reads back what a training or a sweep has recorded in its folder; all that is read is checked here.

A damaged record raises `RecordError`, so that nothing is taken for a run without overrides, metrics or a result.
"""

import csv
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from fashion_vgg.checkpoints import text_files
from fashion_vgg.checkpoints.run_folder import CONFIG, METRICS, OUTCOME, OVERRIDES, SUMMARY
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.config.overrides import safe_overrides

FAILURES = ("diverged", "pruned", "failed")
"""The statuses of ``outcome.json``."""
MAX_METRICS = 4 * 1024 * 1024  # bytes: an epoch has about 150
MAX_NUMBER = 1e300  # the deviation of larger ones may be infinite
MAX_WORD = 10_000  # characters of an override: Hydra takes seconds to parse as many
_GROUPS = ("data", "model", "trainer")


def recorded_overrides(folder: Path) -> list[str]:
    """The overrides that a run was started with, as far as they are safe; none in a folder without a run.

    Raises:
        RecordError: the record is damaged, or missing in a run's folder.
    """
    words = text_files.read_yaml(folder / OVERRIDES)
    if words is None and not any(os.path.lexists(folder / name) for name in (CONFIG, SUMMARY)):
        return []
    return safe_overrides(recorded_words(folder / OVERRIDES, words))


def recorded_words(path: Path, content: Any) -> list[str]:
    """The content of a record that lists overrides; otherwise a `RecordError`."""
    if not _are_words(content):
        raise RecordError(path, "there is no list of overrides" if content is not None else "it is missing")
    return list(content)


def recorded_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run; `RecordError` if it is missing or damaged."""
    from fashion_vgg.config import validation  # imports Hydra, which `runs` does without

    path = folder / CONFIG
    text = text_files.read_yaml_text(path)
    if text is None:
        raise RecordError(path, "it is missing")
    try:
        settings: Any = OmegaConf.create(text)
        validation.check_values(settings)
        groups = [OmegaConf.is_dict(settings.get(group)) for group in _GROUPS]
        content: Any = OmegaConf.to_container(settings)
    except Exception as error:  # YAML and OmegaConf raise many types
        raise RecordError(path, str(error).partition("\n")[0].rstrip(".")) from error
    if not all(groups):
        raise RecordError(path, f"it does not set {', '.join(_GROUPS)}")
    return dict(content)


def check_config(folder: Path) -> None:
    """Raise `RecordError` if there is a configuration that is no YAML, or too large."""
    try:
        text_files.read_yaml_text(folder / CONFIG, yaml.CSafeLoader)  # ten times as fast, if it is installed
    except (RecordError, AttributeError):
        text_files.read_yaml_text(folder / CONFIG)  # also reads a path that is not UTF-8


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.csv``, one per epoch; a metric that an epoch lacks is left out. Empty without the file."""
    path = folder / METRICS
    text = text_files.read_text(path, MAX_METRICS)
    if text is None:
        return []
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows = [{name: float(value) for name, value in row.items() if value} for row in table]
    except (csv.Error, ValueError, TypeError) as error:
        raise RecordError(path, f"it is not a table of numbers ({error})") from error
    if "epoch" not in (table.fieldnames or ()) or not all("epoch" in row for row in rows):
        raise RecordError(path, "a row has no epoch")
    return rows


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of ``summary.json``; empty without the file."""
    return _checked(folder / SUMMARY, _OF_A_SUMMARY)


def read_outcome(folder: Path) -> dict[str, Any]:
    """The content of ``outcome.json``; empty without the file."""
    return _checked(folder / OUTCOME, _OF_AN_OUTCOME)


def _checked(path: Path, schema: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    content = text_files.read_json(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RecordError(path, "it is not a JSON object")
    for key, fits in schema.items():
        if not fits(content.get(key)):
            raise RecordError(path, f"its {key} is missing or not valid")
    return content


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_NUMBER


def _is_number_or_null(value: Any) -> bool:
    return value is None or _is_number(value)


def _are_metrics(content: Any) -> bool:
    return isinstance(content, dict) and all(map(_is_number_or_null, content.values()))


def _are_words(content: Any) -> bool:
    return isinstance(content, list) and all(map(_is_word, content))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_WORD and "\0" not in value


_OF_A_SUMMARY: dict[str, Callable[[Any], bool]] = {
    "final": _are_metrics,
    "best": _are_metrics,
    "wall_seconds": _is_number,
    "images_per_sec": _is_number_or_null,
    "overrides": _are_words,
    "git_commit": lambda value: value is None or isinstance(value, str),
}
_OF_AN_OUTCOME: dict[str, Callable[[Any], bool]] = {
    "status": lambda value: isinstance(value, str) and value in FAILURES,
    "error": lambda value: isinstance(value, str),
}
"""Which values the keys of a file take."""
