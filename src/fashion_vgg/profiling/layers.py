"""What each layer of a network costs, from one forward pass on the ``meta`` device, where tensors have only shapes."""

import copy
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class LayerCost:
    """The cost of a layer, or of a block of layers.

    Attributes:
        name: name of the module in the network.
        kind: class of the module.
        kernel_size: height and width of the kernel in pixels; None for a layer without one.
        input_shape: for one image.
        output_shape: for one image.
        parameters: number of parameters.
        multiply_adds: number for one image.
        receptive_field: height and width, in pixels, of the image region that an output unit depends on. It includes
            padding, so it may be larger than the image.
        stride: effective stride, the distance in pixels between the receptive fields of neighbouring units. None after
            a layer whose units depend on the whole image.
        saved_bytes: activations of a batch in float32 that the layer saves for the backward pass. A tensor that several
            layers save counts for the first of them.
        gradient_bytes: gradients of the layer's output and input, which its backward pass holds at the same time.
    """

    name: str
    kind: str
    kernel_size: int | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int
    stride: int | None
    saved_bytes: int
    gradient_bytes: int


def layer_costs(net: nn.Module, size: tuple[int, int, int], batch_size: int) -> list[LayerCost]:
    """The layers in the order in which they are called, for images of ``size`` (channels, height, width).

    Raises:
        ValueError: a layer does not accept the batch.
    """
    net = copy.deepcopy(net).to("meta").train()
    trace = _Trace(net, size[-1])
    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(functools.partial(trace.add, name))
    with saved_tensors_hooks(trace.save, lambda tensor: tensor), trace.flop_counter:
        net(torch.empty(batch_size, *size, device="meta"))
    return trace.costs


def by_block(costs: Iterable[LayerCost], whole_head: bool = False) -> list[LayerCost]:
    """The costs summed over each block; the layers of the head stay separate unless ``whole_head``."""

    def block(cost: LayerCost) -> str:
        parts = cost.name.split(".")
        return ".".join(parts[: 1 if whole_head and parts[0] == "head" else 2])

    return [total(name, list(group)) for name, group in groupby(costs, key=block)]


def total(name: str, costs: Sequence[LayerCost]) -> LayerCost:
    """The cost of consecutive layers together; the backward pass holds the gradients of one layer at a time."""
    if len(costs) == 1:
        return replace(costs[0], name=name)
    return replace(
        costs[-1],
        name=name,
        kind="Sequential",
        kernel_size=None,
        input_shape=costs[0].input_shape,
        parameters=sum(cost.parameters for cost in costs),
        multiply_adds=sum(cost.multiply_adds for cost in costs),
        saved_bytes=sum(cost.saved_bytes for cost in costs),
        gradient_bytes=max(cost.gradient_bytes for cost in costs),
    )


class _Trace:
    """Appends the cost of each layer to ``costs`` when its forward hook runs."""

    def __init__(self, net: nn.Module, image_size: int) -> None:
        self.costs: list[LayerCost] = []
        self.flop_counter = FlopCounterMode(display=False)
        self._image_size = image_size
        self._counted_flop = self._saved_bytes = 0
        self._known_storages = {_storage(tensor) for tensor in (*net.parameters(), *net.buffers())}

    def save(self, tensor: Tensor) -> Tensor:
        """Count a tensor that autograd saves, unless it is a parameter, a buffer or counted already."""
        storage = _storage(tensor)
        if storage not in self._known_storages:
            self._known_storages.add(storage)
            self._saved_bytes += tensor.untyped_storage().nbytes()
        return tensor

    def add(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the layer that was called: its operations and saved tensors are those since the previous one."""
        images, flop = inputs[0], self.flop_counter.get_total_flops()
        # The first layer needs no gradient of its input; Flatten only changes the shape.
        with_gradients = [output] if not self.costs else [images, output]
        gradients = 0 if isinstance(module, nn.Flatten) else sum(tensor.nbytes for tensor in with_gradients)
        previous = (self.costs[-1].receptive_field, self.costs[-1].stride) if self.costs else (1, 1)
        receptive_field, stride = _receptive_field(module, *previous, self._image_size)
        self.costs.append(
            LayerCost(
                name=name,
                kind=type(module).__name__,
                kernel_size=_side(module.kernel_size) if hasattr(module, "kernel_size") else None,
                input_shape=(1, *images.shape[1:]),
                output_shape=(1, *output.shape[1:]),
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                multiply_adds=(flop - self._counted_flop) // 2 // len(images),
                receptive_field=receptive_field,
                stride=stride,
                saved_bytes=self._saved_bytes,
                gradient_bytes=gradients,
            )
        )
        self._counted_flop, self._saved_bytes = flop, 0


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _receptive_field(module: nn.Module, field: int, stride: int | None, image_size: int) -> tuple[int, int | None]:
    """Receptive field and effective stride after a layer, given those before it."""
    match module:
        case nn.Conv2d() | nn.MaxPool2d() if stride:
            return field + (_side(module.kernel_size) - 1) * stride, stride * _side(module.stride)
        case nn.Linear() | nn.AdaptiveMaxPool2d():
            return image_size, None
    return field, stride


def _side(value: Any) -> int:
    return int(value[0]) if isinstance(value, tuple) else int(value)
