"""The cost of each layer against measured gradients, torch's record of its memory, and counts by hand."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashion_vgg.models import VGG, AlexNet
from fashion_vgg.profiling.layers import by_block, layer_costs
from fashion_vgg.profiling.memory import estimate
from tests.helpers.configs import member

SGD = partial(torch.optim.SGD, lr=0.01)


def receptive_rows(row: int, block: nn.Module, image: Tensor) -> range:
    """The image rows that a row of the block's output depends on: where its gradient is not zero."""
    image.requires_grad_()
    output = block(image)
    [gradient] = torch.autograd.grad(output[:, :, row, output.shape[-1] // 2].sum(), image)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero()
    return range(int(rows.min()), int(rows.max()) + 1)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_lrn", "vgg13", "vgg16c", "vgg16", "vgg19", "alexnet"])
def test_receptive_fields_match_gradients(name: str) -> None:
    size = 320  # larger than the receptive fields of two neighbouring units
    overrides = f"image_size={size}", "model.ratio=64"
    net = AlexNet(image_size=size, ratio=64) if name == "alexnet" else member(name, *overrides)
    for parameter in net.blocks.parameters():
        nn.init.uniform_(parameter, 0.1, 1)  # positive, so that no ReLU blocks a gradient
    costs = by_block(layer_costs(net, (1, size, size), batch_size=1))
    for block in net.blocks:
        assert isinstance(block, nn.Sequential)
        for index, layer in enumerate(block):
            if isinstance(layer, nn.MaxPool2d):  # the gradient of an average covers the whole window
                block[index] = nn.AvgPool2d(layer.kernel_size, layer.stride)
    for depth, cost in enumerate((cost for cost in costs if cost.name.startswith("blocks")), start=1):
        middle = cost.output_shape[-1] // 2
        first, second = (
            receptive_rows(r, net.blocks[:depth], torch.rand(1, 1, size, size)) for r in (middle - 1, middle)
        )
        assert len(second) == cost.receptive_field
        assert second.start - first.start == cost.stride


def recorded_peak(net: nn.Module, batch: Tensor, optimizer: torch.optim.Optimizer) -> int:
    """Peak bytes of tensors in a training step, as recorded by torch's profiler."""

    def step() -> None:
        loss = F.cross_entropy(net(batch), torch.zeros(len(batch), dtype=torch.int64))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    step()
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    current = peak = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), batch, *states))
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        step()
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            current += event.nbytes()
            peak = max(peak, current)
    return peak


# The share by which the recorded peak is larger: workspace of convolutions, and the six operations of a local response
# normalisation. With momentum, the optimizer has a state.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], int, int, float, float]] = {
    "narrow": (partial(VGG, [(1, 16), (1, 32), (2, 64), (2, 128), (2, 128)], hidden=1024), 224, 16, 0.9, 0.01),
    "norm": (partial(VGG, [(2, 16), (2, 32)], batch_norm=True, head="light"), 64, 32, 0.0, 0.03),
    "lrn": (partial(VGG, [([3, "lrn"], 32), (1, 64)], hidden=64), 64, 32, 0.9, 0.2),
    "alexnet": (partial(AlexNet, hidden=1024), 224, 16, 0.0, 0.05),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_estimated_memory_matches_torchs_record(name: str) -> None:
    make, size, batch_size, momentum, share = NETWORKS[name]
    net = make(image_size=size)
    optimizer = partial(SGD, momentum=momentum)
    estimated = estimate(net, layer_costs(net, (1, size, size), batch_size), optimizer)
    recorded = recorded_peak(net.train(), torch.rand(batch_size, 1, size, size), optimizer(net.parameters()))
    assert (1 - share) * recorded <= estimated.peak <= 1.001 * recorded


def test_saved_activations_and_gradients_counted_by_hand() -> None:
    conv, pool, relu, *_ = layer_costs(VGG([(1, 16)], image_size=28), (1, 28, 28), batch_size=10)
    image, maps = 10 * 28 * 28, 10 * 16 * 28 * 28
    assert conv.saved_bytes == 4 * image
    assert pool.saved_bytes == 4 * maps + 8 * maps // 4  # its input, and the int64 positions of the maxima
    assert relu.saved_bytes == 4 * maps // 4
    assert (conv.gradient_bytes, pool.gradient_bytes) == (4 * maps, 4 * (maps + maps // 4))


def test_layers_are_summed_by_block() -> None:
    costs = layer_costs(VGG([(1, 4)], image_size=8, head="light"), (1, 8, 8), batch_size=2)
    assert [cost.name for cost in by_block(costs)] == ["blocks.0", "head.0", "head.1", "head.2", "head.3"]
    whole_head = by_block(costs, whole_head=True)
    assert [cost.name for cost in whole_head] == ["blocks.0", "head"]
    assert sum(cost.parameters for cost in whole_head) == sum(cost.parameters for cost in costs)
