"""Short, distinct names of runs, of a sweep's jobs and of settings."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence

from fashion_vgg.config.overrides import key_of, safe_overrides

PLACES = ("name", "tags", "output_dir", "data.root", "checkpoint.folder")
"""Keys that say where a run is stored, or what it is called, rather than what it does."""
_MAX_RUN_NAME = 60
_MAX_BYTES = 200
"""File systems allow 255 bytes."""


def short_names(keys: Collection[str]) -> dict[str, str]:
    """The last part of each dotted key, or the whole key where two have the same last part."""
    last = {key: key.rpartition(".")[2] for key in keys}
    number = Counter(last.values())
    return {key: name if number[name] == 1 else key for key, name in last.items()}


def run_name(overrides: Sequence[str], name: object = None, swept: Collection[str] = ()) -> str:
    """The given name of a run or a sweep, or its experiment and its other overrides, at most 60 characters.

    Empty without overrides. The ``swept`` keys name the jobs of a sweep, not the sweep.
    """
    hidden = (*swept, *PLACES)
    words = [word for word in safe_overrides(list(overrides)) if key_of(word) not in hidden]
    # Choices of configs first, limits of a trial run last.
    words.sort(key=lambda word: ("." in key_of(word), key_of(word).startswith("trainer.")))
    text = _safe(_described(words) if name is None else str(name))
    return text if len(text) <= _MAX_RUN_NAME else text[:_MAX_RUN_NAME].rpartition(",")[0] or text[:_MAX_RUN_NAME]


def job_name(overrides: Sequence[str], swept: Collection[str]) -> str:
    """The name of a sweep's job: its overrides of the swept keys. Different jobs have different names.

    A slash becomes a plus; where other characters are replaced, a checksum keeps the names apart.
    """
    settings = {key_of(word): word for word in safe_overrides(list(overrides))}
    own = [settings[key] for key in dict.fromkeys(swept) if key in settings]  # in the same order when it is resumed
    full = _described(own or [word for key, word in settings.items() if key not in PLACES]) or "job"
    name = _safe(full)
    if name == full.replace("/", "+") and "+" not in full and len(name.encode()) <= _MAX_BYTES:
        return name
    short = name.encode()[:_MAX_BYTES].decode(errors="ignore")
    digest = hashlib.sha256(full.encode(errors="surrogatepass"))  # a word may have bytes that are not UTF-8
    return f"{short}-{digest.hexdigest()[:8]}"


def _described(overrides: Sequence[str]) -> str:
    """Overrides by their short names; the experiment comes first, as its name alone."""
    settings = {key_of(word): word for word in overrides}
    names = short_names(settings)
    experiment = settings.pop("experiment", "").partition("=")[2]
    others = (
        f"{'~' * (word[0] == '~')}{names[key]}{''.join(word.partition('=')[1:])}" for key, word in settings.items()
    )
    return ",".join(filter(None, (experiment, *others)))


def _safe(text: str) -> str:
    return re.sub(r"[^\w.,=+~@()\[\]{}-]", "_", text.replace("+", "_").replace("/", "+"))
