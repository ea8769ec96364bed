"""Chooses the precision that the hardware is faster at."""

import logging
from timeit import timeit

import torch

log = logging.getLogger(__name__)

SIDE = 512
REPETITIONS = 5
MOST_SECONDS = 0.2  # a CPU that emulates bfloat16 takes as long for one product
WORTHWHILE = 1.2
"""The least ratio of the speeds of bfloat16 and float32 for which bfloat16 is chosen."""


def choose(accelerator: str) -> str:
    """``bf16-mixed`` or ``32-true`` for a Trainer's accelerator.

    A CPU multiplies small matrices in both, which takes milliseconds; a GPU states whether it has bfloat16 units.
    """
    ratio = cpu_ratio(accelerator)
    if ratio is None:
        is_nvidia = accelerator != "mps" and torch.cuda.is_available()
        return "bf16-mixed" if is_nvidia and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    chosen = "bf16-mixed" if ratio >= WORTHWHILE else "32-true"
    log.info("Precision %s: this CPU multiplies bfloat16 at %.2g times the speed of float32.", chosen, ratio)
    return chosen


def is_emulated(precision: str, accelerator: str) -> bool:
    """Whether the precision is bfloat16, on a CPU that is slower at it than at float32."""
    ratio = cpu_ratio(accelerator) if precision.startswith("bf16") else None
    return ratio is not None and ratio < 1


def cpu_ratio(accelerator: str) -> float | None:
    """The speed of bfloat16 over that of float32 on the CPU; None if the accelerator is not the CPU."""
    if accelerator != "cpu" and (accelerator != "auto" or torch.accelerator.is_available()):
        return None
    return _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)


def _product_seconds(dtype: torch.dtype) -> float:
    """The time of a matrix product, the best of several; the first one also initializes the library."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    seconds = list[float]()
    while len(seconds) < 2 or (len(seconds) < REPETITIONS and sum(seconds) < MOST_SECONDS):
        seconds.append(timeit(lambda: matrix @ matrix, number=1))
    return min(seconds)
