"""What a sweep's record says of its launcher and its sweeper, as far as a file may say it.

A sweep's folder may be another user's, and Hydra's own keys can run commands (``hydra.launcher.setup``), import any
class, or connect to a Ray cluster, which executes what the other side sends. Those are to be repeated by the user.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from fashion_vgg.checkpoints import records, text_files
from fashion_vgg.config.overrides import key_of, safe_overrides
from fashion_vgg.errors import UserError

RECORD = "sweep.yaml"
"""In a sweep's folder: the overrides that it was started with, as a JSON list."""

_OPTION = r"hydra/(launcher|sweeper|sweeper/sampler)=\w+"
_RAY = (
    r"hydra\.launcher\.ray\.(remote\.num_cpus|remote\.num_gpus|init\.num_cpus|init\.num_gpus)=[\d.]+"
    r"|hydra\.launcher\.ray\.init\.address=(null|auto|local|(127\.0\.0\.1|localhost):\d+)"
)
_STORAGE = r"hydra\.sweeper\.storage=(null|sqlite:///[\w./-]+)"
_OTHER = (
    r"hydra\.(launcher|sweeper)\.(?!ray\b|storage\b|setup\b|teardown\b|srun_args\b|additional_parameters\b)"
    r"[a-z]\w*(\.[a-z]\w*)*=[\w.,:/|()\[\]@%+ -]*"
)
_SWEEP = r"sweep=\w+(/\w+)*|sweep\.keys=\[[\w.,/@]*\]|sweep\.(objective|worst|fail_fast)=[\w./+-]+"
_SAFE = re.compile(rf"{_SWEEP}|{_OPTION}|{_RAY}|{_STORAGE}|{_OTHER}")


def read(folder: Path) -> list[str]:
    """The overrides of a sweep.

    Raises:
        UserError: the folder has no record, or a damaged one.
    """
    content = text_files.read_json(folder / RECORD)
    if content is None:
        raise UserError(f"sweep.resume={folder}: not a sweep's folder, since it has no {RECORD}.")
    return records.recorded_words(folder / RECORD, content)


def taken_over(folder: Path, words: Sequence[str], given: Collection[str]) -> list[str]:
    """The recorded overrides whose keys the command line does not have.

    Raises:
        UserError: one of them is a setting of Hydra, or of the sweep, that is not read from a file.
    """
    words = [word for word in words if key_of(word) not in given]
    for word in words:
        if re.match(r"[+~]*(hydra|sweep)\b", word) and not _SAFE.fullmatch(word):
            raise UserError(
                f"{folder / RECORD}: a file may not set {word}. "
                "Repeat it on the command line, or remove it from the file."
            )
    return [*safe_overrides(words), *filter(_SAFE.fullmatch, words)]
