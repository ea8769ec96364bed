"""The command line of a sweep: which settings it varies, the configs that a pattern names, and its first job."""

import fnmatch
import math
import sys
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, Transformer
from hydra.errors import HydraException

from fashion_vgg.config import launch
from fashion_vgg.config.app import groups, options
from fashion_vgg.config.overrides import MULTIRUN, key_of, split_flags, value_of
from fashion_vgg.errors import UserError

KEYS = "sweep.keys"
"""Holds the keys that differ between the jobs."""
_SHOW = ("-c", "--cfg")


def expand(argv: Sequence[str]) -> list[str]:
    """Add the swept keys, after which the jobs are named; with ``--cfg``, replace the sweep by its first job.

    Raises:
        UserError: a sweep has no values, or torchrun started it several times.
    """
    if not set(MULTIRUN) & set(argv):
        return list(argv)
    if launch.is_torchrun():
        raise UserError("Start a sweep without torchrun: each of its jobs starts its own processes.")
    flags, words = split_flags(argv)
    try:
        words = [_with_nested_configs(word) for word in words]
        overrides = OverridesParser.create().parse_overrides(words)
    except HydraException:
        return list(argv)  # Hydra reports it
    swept = [override for override in overrides if override.is_sweep_override()]
    if any(word.partition("=")[0] in _SHOW for word in flags):
        return _first_job(flags, overrides, swept)
    _number_of_jobs(swept)
    recorded = swept_keys(words)  # of a sweep that is resumed
    keys = dict.fromkeys([*recorded, *(key_of(str(override.get_key_element())) for override in swept)])
    others = [word for word in words if key_of(word) != KEYS]
    return [*flags, *others, *([f"{KEYS}=[{','.join(keys)}]"] if keys else [])]


def swept_keys(words: Sequence[str]) -> list[str]:
    """The keys that differ between the jobs, as the overrides of a recorded sweep name them."""
    return [key for key in (value_of(words, KEYS) or "").strip("[]").split(",") if key]


def _with_nested_configs(word: str) -> str:
    """Replace ``group=glob(...)`` by the group's options that match, also those in folders such as ``kernels/``."""
    key = key_of(word)
    if key not in groups() or "=glob(" not in word:
        return word
    pattern = OverridesParser.create().parse_override(word).value()
    if not isinstance(pattern, Glob):
        return word
    found = [name for name in options(key) if _matches(name, pattern.include) and not _matches(name, pattern.exclude)]
    if not found:
        raise UserError(f"{word}: no such config. Available: {', '.join(options(key))}.")
    return f"{word.partition('=')[0]}={','.join(found)}"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """As in a shell, ``*`` does not match a slash."""
    return any(fnmatch.fnmatch(name, p) and name.count("/") == p.count("/") for p in patterns)


def _number_of_jobs(swept: Sequence[Override]) -> int:
    """The product of the numbers of values; those of a search count as one."""
    numbers = {}
    for override in swept:
        if isinstance(override.value(), Glob):
            raise UserError(f"{override.input_line}: glob() takes the configs of a group.")
        if override.is_discrete_sweep():
            numbers[override.input_line] = len(list(override.sweep_iterator()))
    if empty := [word for word, number in numbers.items() if not number]:
        raise UserError(f"{empty[0]}: a sweep over no values.")
    return math.prod(numbers.values())


def _first_job(flags: Sequence[str], overrides: Sequence[Override], swept: Sequence[Override]) -> list[str]:
    number = _number_of_jobs(swept)
    print(f"The configuration of the first of {number} job{'s' * (number > 1)}:", file=sys.stderr)
    return [*(flag for flag in flags if flag not in MULTIRUN), *map(_first_value, overrides)]


def _first_value(override: Override) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(override.sweep_iterator(Transformer.encode))
    return f"{override.get_key_element()}={first}"
