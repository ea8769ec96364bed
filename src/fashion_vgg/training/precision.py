"""Chooses the precision that the hardware is faster at."""

import logging
from timeit import repeat

import torch

log = logging.getLogger(__name__)

SIDE = 512
REPETITIONS = 5
WORTHWHILE = 1.2
"""The least ratio of the speeds of bfloat16 and float32 for which bfloat16 is chosen."""


def choose(accelerator: str) -> str:
    """``bf16-mixed`` or ``32-true`` for a Trainer's accelerator.

    A CPU multiplies small matrices in both, which takes milliseconds; a GPU states whether it has bfloat16 units.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator not in ("auto", "cpu"):
        return "32-true"
    ratio = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    chosen = "bf16-mixed" if ratio >= WORTHWHILE else "32-true"
    log.info("Precision %s: this CPU multiplies bfloat16 at %.2g times the speed of float32.", chosen, ratio)
    return chosen


def _product_seconds(dtype: torch.dtype) -> float:
    """The time of a matrix product, the best of several; the first one also initializes the library."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    return min(repeat(lambda: matrix @ matrix, number=1, repeat=REPETITIONS))
