"""What `describe` says of a network, against torch's own records and measurements."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from matplotlib.patches import Polygon
from torch import Tensor, nn
from torch.nn import functional as F

from fashion_vgg.models.alexnet import AlexNet
from fashion_vgg.models.vgg import VGG
from fashion_vgg.profiling import network_plot
from fashion_vgg.profiling.layers import Part, blocks, layers
from fashion_vgg.profiling.network_tables import Network, side_by_side, single
from fashion_vgg.profiling.step_memory import estimate
from tests.helpers import member

SGD = partial(torch.optim.SGD, lr=0.01)


def seen_by(unit: int, block: nn.Module, images: Tensor) -> range:
    """The rows of the images on which a unit's row of the output depends: those where its gradient is not zero."""
    images.requires_grad_()
    output = block(images)
    [gradient] = torch.autograd.grad(output[:, :, unit, output.shape[-1] // 2].sum(), images)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero()
    return range(int(rows.min()), int(rows.max()) + 1)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_lrn", "vgg13", "vgg16c", "vgg16", "vgg19", "alexnet"])
def test_fields_and_strides_are_those_of_measured_gradients(name: str) -> None:
    torch.manual_seed(1)
    size = 320
    net = (
        AlexNet(image_size=size, ratio=16)
        if name == "alexnet"
        else member(name, f"image_size={size}", "model.ratio=16")
    )
    for parameter in net.blocks.parameters():
        nn.init.uniform_(parameter, 0.1, 1)  # positive, so that no ReLU hides what lies behind it
    told = [part for part in blocks(layers(net, (1, size, size), batch_size=1)) if part.name.startswith("blocks")]
    for depth, part in enumerate(told, start=1):
        below = net.blocks[:depth]
        middle = part.output_shape[-1] // 2
        first, second = (seen_by(unit, below, torch.rand(8, 1, size, size)) for unit in (middle - 1, middle))
        assert len(second) == part.receptive_field
        assert second.start - first.start == part.stride


def allocated_in_a_step(net: nn.Module, batch: Tensor, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of tensors at most, by the record that torch's allocator keeps: those of before the step, and its own."""

    def step() -> None:
        loss = F.cross_entropy(net(batch), torch.zeros(len(batch), dtype=torch.int64))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    step()
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    now = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), batch, *states))
    most = 0
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        step()
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


# A share by which the record is larger: of what convolutions work in, and a normalisation of six operations.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], int, int, float]] = {
    "narrow": (partial(VGG, [(1, 16), (1, 32), (2, 64), (2, 128), (2, 128)], hidden=1024), 224, 16, 0.01),
    "norm": (partial(VGG, [(2, 16), (2, 32)], batch_norm=True, head="light"), 64, 32, 0.03),
    "lrn": (partial(VGG, [([3, "lrn"], 32), (1, 64)], hidden=64), 64, 32, 0.2),
    "alexnet": (partial(AlexNet, hidden=1024), 224, 16, 0.05),
}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimated_memory_is_what_torch_records(name: str, momentum: float) -> None:
    make, size, batch_size, share = NETWORKS[name]
    net = make(image_size=size)
    optimizer = partial(SGD, momentum=momentum)
    told = estimate(net, layers(net, (1, size, size), batch_size), optimizer)
    recorded = allocated_in_a_step(net.train(), torch.rand(batch_size, 1, size, size), optimizer(net.parameters()))
    assert (1 - share) * recorded <= told.peak <= 1.001 * recorded


def test_what_layers_keep_and_the_gradients_they_hold_by_hand() -> None:
    conv, pool, relu, *_ = layers(VGG([(1, 16)], image_size=28), (1, 28, 28), batch_size=10)
    image, plane = 10 * 28 * 28, 10 * 16 * 28 * 28
    assert conv.forward_bytes == 4 * image
    assert pool.forward_bytes == 4 * plane + 8 * plane // 4  # its input, and where each largest value was
    assert relu.forward_bytes == 4 * plane // 4
    assert (conv.backward_bytes, pool.backward_bytes) == (4 * plane, 4 * (plane + plane // 4))


def described(net: VGG | AlexNet, size: int, name: str = "net") -> Network:
    parts = layers(net, (1, size, size), batch_size=4)
    return Network(name, (1, size, size), 4, parts, estimate(net, parts, SGD))


def test_the_columns_line_up() -> None:
    network = described(VGG([(1, 4), (2, 8)], image_size=8, hidden=16), 8)
    for by_layer in (False, True):
        lines = single(network, by_layer).text().splitlines()
        assert len({len(line) for line in lines}) == 1


def test_side_by_side_shows_each_networks_own_figures() -> None:
    wide, deep = VGG([([5], 8)], image_size=28, head="light"), VGG([([3, 3], 8), (1, 8)], image_size=28, head="light")
    table = side_by_side([described(wide, 28, "wide"), described(deep, 28, "deep")])
    assert table.header == ["", "", "wide", "deep"]
    by_block = {tuple(row[:2]): row[2:] for row in table.rows}
    assert by_block["parameters", "blocks.0"] == ["208", "664"]  # 25 8 + 8, and 9 8 + 8 + 9 8 8 + 8
    assert by_block["", "blocks.1"][0] == ""
    totals = [row[2:] for row in table.rows if row[1] == "in all"]
    assert totals[0] == [f"{sum(p.numel() for p in net.parameters()):,}" for net in (wide, deep)]


def test_the_boxes_are_to_the_scale_of_their_maps() -> None:
    figure = network_plot.draw([described(VGG([(1, 4), (1, 9)], image_size=32, head="light"), 32)])
    corners = [torch.as_tensor(patch.get_xy()) for patch in figure.axes[0].patches if isinstance(patch, Polygon)]
    upright = [c for c in corners if c[0, 1] == c[1, 1] and c[1, 0] == c[2, 0]]  # a box's front
    sizes = [tuple((c.amax(dim=0) - c.amin(dim=0)).tolist()) for c in upright]
    lengths, heights = zip(*dict.fromkeys(sizes), strict=True)
    # The image, the first convolution, its pooling and the second one's map of 16 px, its pooling.
    assert [height / heights[0] * 32 for height in heights[:5]] == pytest.approx([32, 32, 16, 16, 8])
    assert [length / lengths[0] for length in lengths[:5]] == pytest.approx([1, 2, 2, 3, 3])


def test_a_part_of_one_layer_is_the_layer() -> None:
    parts = layers(VGG([(1, 4)], image_size=8, head="light"), (1, 8, 8), batch_size=2)
    assert [part.name for part in blocks(parts)] == ["blocks.0", "head.0", "head.1", "head.2", "head.3"]
    joined: list[Part] = blocks(parts, whole_head=True)
    assert [part.name for part in joined] == ["blocks.0", "head"]
    assert sum(part.parameters for part in joined) == sum(part.parameters for part in parts)
