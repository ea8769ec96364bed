"""The least time that a training step can take: what the hardware does at best, and what the network asks of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

MATRIX_SIDE = {"cpu": 3072, "cuda": 8192}
COPY_BYTES = {"cpu": 2**29, "cuda": 2**31}
ATTEMPTS = 5


class Ceilings(NamedTuple):
    """What the device does at best."""

    flop_per_sec: float
    bytes_per_sec: float


def best_of(a: Ceilings, b: Ceilings) -> Ceilings:
    """The better of two measurements of each."""
    return Ceilings(max(a.flop_per_sec, b.flop_per_sec), max(a.bytes_per_sec, b.bytes_per_sec))


class Pass(NamedTuple):
    """One pass of a step over its operands, for one image; ``weights`` counts once a step, however many images."""

    flop: float = 0
    activations: float = 0
    weights: float = 0
    float32_weights: float = 0  # those that stay float32 in a mixed precision

    def bytes_moved(self, batch_size: int, bytes_a_number: int) -> float:
        """By a step on so many images."""
        return (batch_size * self.activations + self.weights) * bytes_a_number + self.float32_weights * 4


@dataclass(frozen=True)
class Work:
    """What a step asks of the hardware, pass by pass; ``activations`` and ``weights`` are numbers, not bytes."""

    passes: tuple[Pass, ...]

    def least_seconds(self, batch_size: int, ceilings: Ceilings, bytes_a_number: int) -> float:
        """Each pass at the limit of arithmetic or of memory, whichever takes it longer, one after another."""
        return sum(
            max(
                batch_size * p.flop / ceilings.flop_per_sec,
                p.bytes_moved(batch_size, bytes_a_number) / ceilings.bytes_per_sec,
            )
            for p in self.passes
        )

    def flop_an_image(self) -> float:
        """Operations an image; a multiplication and an addition are two."""
        return sum(p.flop for p in self.passes)

    def bytes_an_image(self, batch_size: int, bytes_a_number: int) -> float:
        """Bytes moved an image, the weights' shared by the batch."""
        return sum(p.bytes_moved(batch_size, bytes_a_number) for p in self.passes) / batch_size


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """The speed of a large matrix product and of a large copy, the best of several each.

    A GPU's float32 product may use TF32, as its convolutions do by PyTorch's default.
    """
    side, count = MATRIX_SIDE[device.type], COPY_BYTES[device.type] // 4
    a, b, product = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
    source, target = torch.rand(count, device=device), torch.rand(count, device=device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else precision)
    try:
        return Ceilings(
            flop_per_sec=2 * side**3 / _best_seconds(lambda: torch.mm(a, b, out=product), device),
            bytes_per_sec=2 * 4 * count / _best_seconds(lambda: target.copy_(source), device),
        )
    finally:
        torch.set_float32_matmul_precision(precision)


def count_work(net: nn.Module, size: tuple[int, int, int], momentum: bool) -> Work:
    """The passes of a training step on images of ``size`` (channels, height, width), the elementwise layers fused.

    Forward, a convolution or dense layer reads its input and writes its output. What follows it up to the next one
    (bias, batch norm, pooling, ReLU) is one pass that reads this output and writes the next layer's input; a ReLU
    alone costs no pass, as it is done where the output is written. Backward, that pass reads the gradient of its output
    and its input and writes the gradient of its input; a batch norm reads its operands once more in both directions,
    for its sums. Then the layer's two products, by its input (not for the first layer) and by its weights, read
    and write their operands. SGD reads weight and gradient and writes the weight, with momentum that too.
    """
    layers = _layers(net, size)
    passes = []
    for index, layer in enumerate(layers):
        operands = Pass(layer.flop, layer.inputs + layer.outputs, layer.weights)
        passes += [operands] * (2 if index == 0 else 3)
        passes.append(Pass(activations=_elementwise(layer)))
        passes.append(Pass(float32_weights=(5 if momentum else 3) * layer.weights))
    return Work(tuple(passes))


@dataclass
class _Layer:
    flop: float
    inputs: int
    outputs: int
    weights: int
    following: int  # numbers that the elementwise layers after it leave
    norm: int = 0  # numbers that a batch norm among them takes


def _layers(net: nn.Module, size: tuple[int, int, int]) -> list[_Layer]:
    """The convolutions and dense layers in their order, for one image."""
    layers: list[_Layer] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights = module.weight.numel()
            positions = output[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
            layers.append(_Layer(2 * weights * positions, inputs[0].numel(), output.numel(), weights, output.numel()))
        elif layers:
            layers[-1].following = output.numel()
            layers[-1].norm += inputs[0].numel() if isinstance(module, nn.BatchNorm2d) else 0

    hooks = [module.register_forward_hook(record) for module in net.modules() if not list(module.children())]
    weight = next(net.parameters())
    with torch.no_grad():
        net.eval()(torch.empty(1, *size, device=weight.device, dtype=weight.dtype))
    for hook in hooks:
        hook.remove()
    return layers


def _elementwise(layer: _Layer) -> float:
    """Numbers that the layers between this one and the next read and write, forward and backward."""
    if layer.following == layer.outputs and not layer.norm:
        return layer.outputs  # the ReLU's mask, read where the gradient is written
    forward = layer.outputs + layer.following
    backward = layer.following + 2 * layer.outputs
    return forward + backward + 3 * layer.norm


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(ATTEMPTS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
