"""Random numbers as a function of the place in a training, so that a resumed one needs no state of a generator."""

import hashlib

import torch


def seed_at(*place: int) -> int:
    """A seed for a place given by integers, such as the run's seed and the epoch; 32 bits, all that a CPU takes.

    By a hash: torch ignores the upper half of a seed on a CPU, and sums or shifts of small numbers would coincide.
    """
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:4], "little")


def reseed(seed: int, device: torch.device) -> None:
    """Seed the generators that a step on this device draws from.

    `torch.manual_seed` seeds those of all devices there may be, and takes a millisecond for it in the middle of a
    training.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
