"""The memory of a training step, estimated from the layers and measured; peak memory of a process and of a GPU."""

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

import fashion_vgg.config.app  # noqa: F401  registers the configuration's resolvers in the processes of `own_process`
from fashion_vgg.errors import UserError
from fashion_vgg.profiling.layers import LayerCost


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step in float32."""

    weights: int  # parameters and buffers, without gradients
    optimizer: int  # its state, such as momentum
    activations: int  # saved for the backward pass
    peak: int  # the most that these and the gradients occupy at the same time, during the backward pass


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
    parameters = [nn.Parameter(weight.to("meta")) for weight in net.parameters() if weight.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer = make_optimizer(parameters)
    optimizer.step()
    values = (value for state in optimizer.state.values() for value in state.values())
    state_bytes = sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
    peak = saved = activations = sum(cost.saved_bytes for cost in costs)
    weight_gradients = 0
    for cost in reversed(costs):
        weight_gradients += cost.parameters * torch.float32.itemsize
        peak = max(peak, saved + cost.gradient_bytes + weight_gradients)
        saved -= cost.saved_bytes
    return StepMemory(weights, state_bytes, activations, weights + state_bytes + peak)


def measure(cfg: DictConfig, size: tuple[int, int, int], device: torch.device) -> int | None:
    """Peak bytes of two training steps in their own process: of its tensors on a GPU, else of the process.

    None if the system does not report it. If memory runs out, it raises UserError.
    """
    from fashion_vgg.training.memory_errors import is_out_of_memory  # late: imports Lightning

    with own_process() as process:
        try:
            return process.submit(_two_steps, cfg, size, device).result()
        except RuntimeError as error:
            if not (isinstance(error, BrokenProcessPool) or is_out_of_memory(error)):
                raise
            raise UserError(f"batch_size={cfg.batch_size}: a training step ran out of memory or was killed.") from error


def _two_steps(cfg: DictConfig, size: tuple[int, int, int], device: torch.device) -> int | None:
    from fashion_vgg.training import allocator

    allocator.keep_freed_memory()
    before = process_memory()
    net = instantiate(cfg.model).to(device).train()
    optimizer = instantiate(cfg.optimizer)(net.parameters())
    images = torch.rand(cfg.batch_size, *size, device=device)
    labels = torch.randint(cfg.num_classes, (cfg.batch_size,), device=device)
    for _ in range(2):  # the first step creates the optimizer's state
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(net(images), labels))
        optimizer.step()
    return gpu_peak(device) or process_memory("VmHWM") - before or None


def own_process(initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """A new process, so that its peak memory is that of the work submitted to it."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer)


def process_memory(key: str = "VmRSS") -> int:
    """Bytes of this process without its children, or with ``VmHWM`` their peak; 0 on systems other than Linux.

    Unlike ``ru_maxrss``, the peak is not inherited from the parent process.
    """
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def gpu_peak(device: torch.device) -> int:
    """The most bytes that tensors occupied on the GPU; 0 for a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
