"""The memory of a training step: estimated from the layers, and measured."""

from collections.abc import Callable, Iterable, Sequence
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
from fashion_vgg.profiling.layers import LayerCost

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step in float32.

    Attributes:
        weights: parameters and buffers; the gradients of the parameters come on top.
        optimizer: state of the optimizer, such as momentum.
        activations: saved for the backward pass.
        peak: the most that these and the gradients occupy at the same time, during the backward pass.
    """

    weights: int
    optimizer: int
    activations: int
    peak: int


def estimate(
    net: nn.Module, costs: Sequence[LayerCost], make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
) -> StepMemory:
    """The memory of a step on the batch for which the layer costs were computed.

    The backward pass visits the layers from last to first. At each layer, memory holds the weights, the activations
    that the layers up to it saved, the gradients of its activations, and the gradients of the weights from it on.
    Not included: workspace of the libraries, temporary tensors within a layer (as in a local response normalisation),
    and the temporary tensors of the optimizer's step, which may be the peak if the weights outweigh the batch.
    """
    weights = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
    optimizer = _optimizer_bytes(net, make_optimizer)
    peak = saved = activations = sum(cost.saved_bytes for cost in costs)
    weight_gradients = 0
    for cost in reversed(costs):
        weight_gradients += cost.parameters * torch.float32.itemsize
        peak = max(peak, saved + cost.gradient_bytes + weight_gradients)
        saved -= cost.saved_bytes
    return StepMemory(weights, optimizer, activations, weights + optimizer + peak)


def _optimizer_bytes(net: nn.Module, make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]) -> int:
    """Size of the optimizer's state after a step on the ``meta`` device."""
    parameters = [nn.Parameter(parameter.to("meta")) for parameter in net.parameters()]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer = make_optimizer(parameters)
    optimizer.step()
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def measure(cfg: "DictConfig", size: tuple[int, int, int], device: torch.device) -> int | None:
    """Peak bytes of two training steps in their own process: of its tensors on a GPU, else of the process.

    None if the system does not report it.

    Raises:
        UserError: memory ran out.
    """
    from fashion_vgg.training.memory_errors import is_out_of_memory  # late: imports Lightning

    with memory.own_process() as process:
        try:
            return process.submit(_two_steps, cfg, size, device).result()
        except RuntimeError as error:
            if not (isinstance(error, BrokenProcessPool) or is_out_of_memory(error)):
                raise
            raise UserError(f"batch_size={cfg.batch_size}: a training step ran out of memory or was killed.") from error


def _two_steps(cfg: "DictConfig", size: tuple[int, int, int], device: torch.device) -> int | None:
    from fashion_vgg.training import allocator

    allocator.keep_freed_memory()
    before = memory.process_bytes()
    net = instantiate(cfg.model).to(device).train()
    optimizer = instantiate(cfg.optimizer)(net.parameters())
    images = torch.rand(cfg.batch_size, *size, device=device)
    labels = torch.randint(cfg.num_classes, (cfg.batch_size,), device=device)
    for _ in range(2):  # the first step creates the optimizer's state
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(net(images), labels))
        optimizer.step()
    return memory.gpu_peak(device) or memory.process_peak() - before or None
