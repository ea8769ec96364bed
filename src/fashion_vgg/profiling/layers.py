"""The layers of a network, and what each one costs, without a single multiplication."""

import copy
import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Part:
    """A layer, or a block of layers.

    Attributes:
        name: its place in the network.
        kind: its class.
        kernel: side of its kernel in pixels; None where it has none.
        output_shape: for one image.
        parameters: numbers that are trained.
        multiply_adds: for one image.
        receptive_field: side in pixels of what one unit of the output depends on; it may reach beyond the image.
        stride: pixels between the centres of what two neighbouring units depend on; None where a unit sees everything.
        forward_bytes: what the forward pass of a batch leaves for the backward pass, in float32.
        backward_bytes: the gradients of its output and its input that the backward pass of a batch holds at once.
    """

    name: str
    kind: str
    kernel: int | None
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int
    stride: int | None
    forward_bytes: int
    backward_bytes: int


def layers(net: nn.Module, size: tuple[int, int, int], batch_size: int) -> list[Part]:
    """The layers in the order of their work, for images of ``size`` (channels, height, width).

    They are found by a training step's forward pass on torch's ``meta`` device, which has shapes alone: torch's own
    counter gives the operations, and its own record what is kept for the backward pass.

    Raises:
        ValueError: torch refuses such a batch.
    """
    net = copy.deepcopy(net).to("meta").train()
    calls: list[_Call] = []
    with _recorded(net, calls), FlopCounterMode(display=False) as counter:
        net(torch.empty(batch_size, *size, device="meta"))
    operations = counter.get_flop_counts()  # two for each multiply-add
    field, stride = 1, 1
    parts = []
    for index, call in enumerate(calls):
        field, stride = _seen(call.module, field, stride, size[-1])
        flop = sum(operations.get(f"{type(net).__name__}.{call.name}", {}).values())
        parts.append(
            Part(
                name=call.name,
                kind=type(call.module).__name__,
                kernel=_side(call.module.kernel_size) if hasattr(call.module, "kernel_size") else None,
                output_shape=(1, *call.output.shape[1:]),
                parameters=sum(parameter.numel() for parameter in call.module.parameters()),
                multiply_adds=flop // 2 // batch_size,
                receptive_field=field,
                stride=stride or None,
                forward_bytes=call.kept_bytes,
                backward_bytes=call.gradient_bytes(of_input=index > 0),
            )
        )
    return parts


def blocks(parts: Iterable[Part], whole_head: bool = False) -> list[Part]:
    """The layers of each block as one part; those of the head stay by themselves, or are one part, too."""

    def block(part: Part) -> str:
        first, second, *_ = [*part.name.split("."), ""]
        return first if whole_head and first == "head" else f"{first}.{second}"

    return [_joined(name, list(group)) for name, group in groupby(parts, key=block)]


def _joined(name: str, parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return Part(
        name=name,
        kind="Sequential",
        kernel=None,
        output_shape=parts[-1].output_shape,
        parameters=sum(part.parameters for part in parts),
        multiply_adds=sum(part.multiply_adds for part in parts),
        receptive_field=parts[-1].receptive_field,
        stride=parts[-1].stride,
        forward_bytes=sum(part.forward_bytes for part in parts),
        backward_bytes=max(part.backward_bytes for part in parts),
    )


@dataclass
class _Call:
    """What one layer did in a forward pass."""

    name: str
    module: nn.Module
    input_shape: torch.Size
    output: Tensor
    kept_bytes: int

    def gradient_bytes(self, of_input: bool) -> int:
        if isinstance(self.module, nn.Flatten):  # the same numbers in another shape
            return 0
        numbers = self.output.numel() + (self.input_shape.numel() if of_input else 0)
        return numbers * self.output.element_size()


@contextmanager
def _recorded(net: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Write down each layer's call, and the bytes that it is the first to keep."""
    kept: dict[Any, Tensor] = {}
    new: list[int] = []
    own = {_storage(tensor) for tensor in (*net.parameters(), *net.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in kept.keys() | own:
            kept[_storage(tensor)] = tensor
            new.append(tensor.untyped_storage().nbytes())
        return tensor

    def record(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        calls.append(_Call(name, module, inputs[0].shape, output, sum(new)))
        new.clear()

    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(functools.partial(record, name))
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield


def _storage(tensor: Tensor) -> Any:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _seen(module: nn.Module, field: int, stride: int, image: int) -> tuple[int, int]:
    """The receptive field and stride after a layer; a stride of 0 after one whose units see the whole image."""
    match module:
        case nn.Conv2d() | nn.MaxPool2d() if stride:
            kernel, step = (_side(value) for value in (module.kernel_size, module.stride))
            return field + (kernel - 1) * stride, stride * step
        case nn.Linear() | nn.AdaptiveMaxPool2d():
            return image, 0
    return field, stride


def _side(value: Any) -> int:
    return int(value[0]) if isinstance(value, tuple) else int(value)
