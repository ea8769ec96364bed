"""Random seeds derived from integers, so that a resumed training needs no saved generator state."""

import hashlib

import torch


def derive_seed(*integers: int) -> int:
    """Return a 32-bit seed for a tuple of integers, such as the run's seed and the epoch.

    The tuple is hashed: a sum or a shift of small numbers would collide, and on the CPU torch ignores the upper 32 bits
    of a seed.
    """
    return int.from_bytes(hashlib.sha256(repr(integers).encode()).digest()[:4], "little")


def reseed(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and the generator of ``device``, if that is another.

    `torch.manual_seed` seeds the generators of all devices, which takes about a millisecond each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
