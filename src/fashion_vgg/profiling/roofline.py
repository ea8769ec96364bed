"""The roofline model of a training step: the least time that it takes, given the peak rates of the device.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

import time
import timeit
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import torch
from torch import nn

from fashion_vgg.profiling.layers import LayerCost, layer_costs

MATRIX_SIDE = {"cpu": 3072, "cuda": 8192}
COPY_BYTES = {"cpu": 2**29, "cuda": 2**31}
REPETITIONS = 6  # the first warms up


class Ceilings(NamedTuple):
    """Peak rates of a device."""

    flop_per_sec: float
    bytes_per_sec: float


class Pass(NamedTuple):
    """One pass of a training step over its operands, for a whole batch."""

    flop: float
    bytes_moved: float


def min_seconds(passes: Iterable[Pass], ceilings: Ceilings) -> float:
    """Time of passes that run one after another, each at the peak rate of arithmetic or memory, whichever is slower."""
    return sum(max(flop / ceilings.flop_per_sec, moved / ceilings.bytes_per_sec) for flop, moved in passes)


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """The rates of a large matrix product and a large copy, the best of several repetitions.

    A float32 product on a GPU may use TF32, as PyTorch's convolutions do by default.
    """

    def min_time(work: Callable[[], object]) -> float:
        return min(timeit.repeat(work, timer=partial(clock, device), number=1, repeat=REPETITIONS))

    side, count = MATRIX_SIDE[device.type], COPY_BYTES[device.type] // 4
    a, b, product = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
    source, target = torch.ones(count, device=device), torch.empty(count, device=device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else precision)
    seconds = min_time(lambda: torch.mm(a, b, out=product)), min_time(lambda: target.copy_(source))
    torch.set_float32_matmul_precision(precision)
    return Ceilings(flop_per_sec=2 * side**3 / seconds[0], bytes_per_sec=2 * 4 * count / seconds[1])


def step_passes(
    net: nn.Module, size: tuple[int, int, int], batch_size: int, dtype: torch.dtype, momentum: bool
) -> list[Pass]:
    """The passes of a training step on images of ``size`` (channels, height, width) with fused elementwise layers.

    A convolution or dense layer reads its input and weights and writes its output, in ``dtype``. Backward, it computes
    two products of the same operands: the gradient of its weights, and that of its input except in the first layer;
    neither up to a layer that is frozen. The layers up to the next product (bias, batch norm, pooling, ReLU) are fused
    into one pass in each direction. SGD reads weight and gradient and writes the weight, in float32; with momentum it
    also reads and writes the momentum. An optimizer's own products, such as Muon's, are not counted.
    """
    groups: list[list[LayerCost]] = []  # each product with the elementwise layers that follow it
    for cost in layer_costs(net, size, batch_size=2):  # batch norm rejects a single value per channel
        if cost.multiply_adds:
            groups.append([cost])
        elif groups:
            groups[-1].append(cost)
    passes = []
    for layer, *elementwise in groups:
        inputs, outputs = prod(layer.input_shape), prod(layer.output_shape)
        weights = layer.multiply_adds // prod(layer.output_shape[2:])  # each is used once per output position
        operands = batch_size * (inputs + outputs) + weights
        product = Pass(2 * layer.multiply_adds * batch_size, operands * dtype.itemsize)
        passes += [product] * (1 + layer.trains_weights + layer.passes_gradient)
        backward = layer.trains_weights or layer.passes_gradient
        passes.append(Pass(0, batch_size * _fused(outputs, elementwise, backward) * dtype.itemsize))
        if layer.trains_weights:
            passes.append(Pass(0, (5 if momentum else 3) * weights * torch.float32.itemsize))
    return passes


def _fused(inputs: int, layers: Sequence[LayerCost], backward: bool) -> int:
    """Numbers per image that fused elementwise layers read and write, given the size of their input.

    Forward they read their input and write their output. Backward they read their input and the gradient of their
    output, and write the gradient of their input. A batch norm reads its input for the statistics, and backward its
    input and gradient for their sums. A ReLU alone is fused into the product: only its mask is read, backward.
    """
    outputs = prod(layers[-1].output_shape) if layers else inputs
    normalized = sum(prod(layer.input_shape) for layer in layers if layer.kind == "BatchNorm2d")
    if not backward:
        return 0 if outputs == inputs else inputs + outputs
    if outputs == inputs and not normalized:
        return inputs
    return (inputs + outputs) + (2 * inputs + outputs) + 3 * normalized


def clock(device: torch.device) -> float:
    """Seconds, after the kernels of a GPU have finished."""
    torch.get_device_module(device).synchronize()
    return time.perf_counter()
