"""Damaged and hostile files that scripts/fuzz.py has found or started from: refused, or read as what they are."""

import time
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.faults import fuzz_targets
from tests.helpers import memory_growth_below

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_kept_files_are_refused_or_read_as_what_they_are(target: str, survived: Survived) -> None:
    paths = sorted((CORPUS / target).iterdir())
    with memory_growth_below(1e9):
        for path in paths:
            began = time.monotonic()
            try:
                fuzz_targets.run(target, path.read_bytes())
            except BaseException as error:
                error.add_note(f"The file: {path}")
                raise
            assert time.monotonic() - began < 10, path
    survived("a file kept from fuzzing is refused in a line or two, or read as what it is", len(paths), len(paths))
