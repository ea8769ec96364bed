"""The word that a misspelt one may stand for."""

import difflib
from collections.abc import Iterable


def suggestion(word: str, words: Iterable[str]) -> str:
    """`` Did you mean ...?`` with the word most similar to ``word``, or nothing where none is similar."""
    best = closest(word, words)
    return f" Did you mean {best}?" if best else ""


def closest(word: str, words: Iterable[str]) -> str | None:
    """The word most similar to ``word``; None where none is similar."""
    words = list(words)
    # The right name in the wrong group, or without a group: lr for optimizer.lr.
    same_name = [w for w in words if w.rpartition(".")[2] == word.rpartition(".")[2]]
    part = [w for w in words if "." not in w and len(word) > 2 and word in w]
    found = same_name or difflib.get_close_matches(word, words, n=1, cutoff=0.6) or part
    return found[0] if found else None
