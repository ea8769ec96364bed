"""Seeds the random generators before each training step."""

import torch


def reseed(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and the generator of ``device``, if that is another.

    `torch.manual_seed` seeds the generators of all devices, which takes about a millisecond each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
