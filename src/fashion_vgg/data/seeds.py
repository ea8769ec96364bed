"""Random seeds derived from integers, so that a resumed training needs no saved generator state."""

import hashlib


def derive_seed(*integers: int) -> int:
    """Return a 32-bit seed for a tuple of integers, such as the run's seed and the epoch.

    The tuple is hashed: a sum or a shift of small numbers would collide, and on the CPU torch ignores the upper 32 bits
    of a seed.
    """
    return int.from_bytes(hashlib.sha256(repr(integers).encode()).digest()[:4], "little")
