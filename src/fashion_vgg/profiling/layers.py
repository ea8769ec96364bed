"""What each layer of a network costs, from one forward pass on the ``meta`` device, where tensors have only shapes."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class LayerCost:
    """The cost of a layer, or of a block of layers. Shapes and ``multiply_adds`` are for one image.

    The saved bytes are activations of a batch in float32 that the layer saves for the backward pass. A tensor that
    several layers save counts for the first of them.
    """

    name: str
    kind: str  # class of the module
    kernel_size: int | None  # height and width in pixels
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int  # height and width in pixels of the image, with padding: it may be larger than the image
    stride: int | None  # pixels between neighbouring units' receptive fields; None if each covers the whole image
    saved_bytes: int
    gradient_bytes: int  # gradients of output and input of a batch, which the backward pass holds at the same time
    trains_weights: bool  # the backward pass computes the gradient of its weights
    passes_gradient: bool  # the backward pass computes the gradient of its input


def layer_costs(net: nn.Module, size: tuple[int, int, int], batch_size: int) -> list[LayerCost]:
    """The layers in the order in which they are called, for images of ``size`` (channels, height, width).

    A layer that does not accept the batch raises its own ValueError or RuntimeError.
    """
    net = copy.deepcopy(net).to("meta").train()
    costs: list[LayerCost] = []
    saved = {tensor.untyped_storage(): 0 for tensor in (*net.parameters(), *net.buffers())}  # bytes of activations
    counter = FlopCounterMode(display=False)

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved.setdefault(storage, storage.nbytes())
        return tensor

    def add(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with_gradients = [tensor for tensor in (inputs[0], output) if tensor.requires_grad]
        field, stride = (costs[-1].receptive_field, costs[-1].stride) if costs else (1, 1)
        field, stride = _receptive_field(module, field, stride, size[-1])
        cost = LayerCost(
            name=name,
            kind=type(module).__name__,
            kernel_size=_side(module.kernel_size) if hasattr(module, "kernel_size") else None,
            input_shape=(1, *inputs[0].shape[1:]),
            output_shape=(1, *output.shape[1:]),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            multiply_adds=counter.get_total_flops() // 2 // batch_size - sum(cost.multiply_adds for cost in costs),
            receptive_field=field,
            stride=stride,
            saved_bytes=sum(saved.values()) - sum(cost.saved_bytes for cost in costs),
            gradient_bytes=0 if isinstance(module, nn.Flatten) else sum(tensor.nbytes for tensor in with_gradients),
            trains_weights=any(parameter.requires_grad for parameter in module.parameters()),
            passes_gradient=inputs[0].requires_grad,
        )
        costs.append(cost)

    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(partial(add, name))
    with saved_tensors_hooks(save, lambda tensor: tensor), counter:
        net(torch.empty(batch_size, *size, device="meta"))
    return costs


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
    sums = {key: sum(getattr(cost, key) for cost in costs) for key in ("parameters", "multiply_adds", "saved_bytes")}
    gradient_bytes = max(cost.gradient_bytes for cost in costs)
    whole = replace(costs[-1], name=name, kind="Sequential", kernel_size=None, input_shape=costs[0].input_shape)
    return replace(whole, gradient_bytes=gradient_bytes, **sums)


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
