"""The memory that a training step takes: estimated from the layers, and measured."""

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import nn
from torch.optim import Optimizer

from fashion_vgg.errors import UserError
from fashion_vgg.profiling import memory
from fashion_vgg.profiling.layers import Part
from fashion_vgg.training import allocator
from fashion_vgg.training.build import network
from fashion_vgg.training.memory_errors import is_out_of_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig

FLOAT32 = 4
"""Bytes of a number."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step in float32.

    Attributes:
        weights: of parameters and buffers; the gradients take as much as the parameters.
        optimizer: what the optimizer keeps from step to step.
        forward: what the forward pass leaves for the backward pass.
        peak: at the moment of the backward pass when all of these, and the gradients that it holds, take the most.
    """

    weights: int
    optimizer: int
    forward: int
    peak: int


def estimate(
    net: nn.Module, layers: Sequence[Part], make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
) -> StepMemory:
    """Of a step on the batch that the layers were described for.

    The backward pass goes through the layers from the last to the first. At each one there are the weights, what the
    layers up to it have kept, its own gradients, and those of the weights from it on. What a library needs to work in
    comes on top, and so does what a layer of several operations, a local response normalisation, holds between them.
    The optimizer's own work comes after it: where the weights outweigh the batch, that may be the peak.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*net.parameters(), *net.buffers()))
    optimizer = _state_bytes(net, make_optimizer)
    peak = kept = sum(layer.forward_bytes for layer in layers)
    weight_gradients = 0
    for layer in reversed(layers):
        weight_gradients += layer.parameters * FLOAT32
        peak = max(peak, kept + layer.backward_bytes + weight_gradients)
        kept -= layer.forward_bytes
    return StepMemory(weights, optimizer, sum(layer.forward_bytes for layer in layers), weights + optimizer + peak)


def _state_bytes(net: nn.Module, make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]) -> int:
    """What a step leaves in the optimizer, for parameters without content."""
    parameters = [nn.Parameter(parameter.to("meta")) for parameter in net.parameters()]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer = make_optimizer(parameters)
    optimizer.step()
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))


def measure(cfg: "DictConfig", size: tuple[int, int, int], device: torch.device) -> int | None:
    """Bytes that two training steps take at most, in a process of their own: the tensors' on a GPU, else the process's.

    None where the system does not say.

    Raises:
        UserError: memory ran out.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(_two_steps, cfg, size, device).result()
        except (BrokenProcessPool, RuntimeError) as error:  # the system kills a process when its own memory runs out
            if not (isinstance(error, BrokenProcessPool) or is_out_of_memory(error)):
                raise
            what = "does not fit into the memory" if is_out_of_memory(error) else "was ended, as if memory ran out"
            raise UserError(f"batch_size={cfg.batch_size}: a step of it {what}.") from error


def _two_steps(cfg: "DictConfig", size: tuple[int, int, int], device: torch.device) -> int | None:
    allocator.keep_freed_memory()
    before = memory.host_now()
    net = network(cfg.model).to(device).train()
    optimizer = instantiate(cfg.optimizer)(net.parameters())
    images = torch.rand(cfg.batch_size, *size, device=device)
    labels = torch.randint(cfg.num_classes, (cfg.batch_size,), device=device)
    for _ in range(2):  # the first one makes the optimizer's state
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(net(images), labels))
        optimizer.step()
    return memory.device_peak(device) or memory.host_peak() - before or None
