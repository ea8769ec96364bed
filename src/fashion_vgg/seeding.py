"""Random numbers as a function of the place in a training, so that a resumed one needs no state of a generator."""

import hashlib


def seed_at(*place: int) -> int:
    """A seed for a place given by integers, such as the run's seed and the epoch; 32 bits, all that a CPU takes.

    By a hash: torch ignores the upper half of a seed on a CPU, and sums or shifts of small numbers would coincide.
    """
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:4], "little")
