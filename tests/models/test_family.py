"""The configured networks against the paper's tables and torchvision's classes."""

from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.profiling.layers import layer_costs
from tests.helpers import member

# Simonyan and Zisserman (2015): weight layers of each column (table 1) and millions of parameters (table 2).
PAPER = {"vgg11": (11, 133), "vgg11_lrn": (11, 133), "vgg13": (13, 133), "vgg16c": (16, 134), "vgg16": (16, 138)}
PAPER |= {"vgg19": (19, 144)}
COLUMNS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
TORCHVISION = [*COLUMNS, *(f"{name}_bn" for name in COLUMNS)]
IMAGENET = ("in_channels=3", "num_classes=1000")
REDUCED = ("model.ratio=16", "model.hidden=64")


@pytest.mark.parametrize("name", PAPER)
def test_weight_layers_and_parameters_match_the_paper(name: str) -> None:
    with torch.device("meta"):
        net = member(name, *IMAGENET)
    weight_layers, millions = PAPER[name]
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in net.modules()) == weight_layers
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6) == millions


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_and_multiply_adds_match_torchvisions_metadata(name: str) -> None:
    published = models.get_model_weights(name)["IMAGENET1K_V1"].meta
    with torch.device("meta"):
        net = member(name, *IMAGENET)
    assert sum(parameter.numel() for parameter in net.parameters()) == published["num_params"]
    multiply_adds = sum(layer.multiply_adds for layer in layer_costs(net, (3, 224, 224), batch_size=2))
    assert round(multiply_adds / 1e9, 3) == published["_ops"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_shapes_of_the_weights_match_torchvision(name: str) -> None:
    with torch.device("meta"):
        state, expected = member(name, *IMAGENET).torchvision_state_dict(), models.get_model(name).state_dict()
    assert [(key, value.shape) for key, value in state.items()] == [
        (key, value.shape) for key, value in expected.items()
    ]


def reduced(name: str) -> Any:
    """A network of torchvision with 1/16 of the channels, in float64 and evaluation mode."""
    column, batch_norm = COLUMNS[name.removesuffix("_bn")], name.endswith("_bn")
    channels = [entry if entry == "M" else entry // 16 for entry in models.vgg.cfgs[column]]
    features = models.vgg.make_layers(channels, batch_norm)
    with torch.device("meta"):
        net = models.VGG(features, init_weights=False)
    for index, (inputs, outputs) in {0: (32 * 7 * 7, 64), 3: (64, 64), 6: (64, 10)}.items():
        net.classifier[index] = nn.Linear(inputs, outputs)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # else it would not change its input
            layer.running_mean = torch.randn(layer.num_features) / 10
            layer.running_var = 0.5 + torch.rand(layer.num_features)
            nn.init.normal_(layer.weight)
    return net.double().eval()


@pytest.mark.parametrize("name", TORCHVISION)
def test_outputs_match_torchvision_with_its_weights(name: str) -> None:
    torch.manual_seed(5)
    theirs, ours = reduced(name), member(name, "in_channels=3", *REDUCED).double().eval()
    images = torch.rand(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(images)
        assert (ours(images) - expected).norm() > 0.1 * expected.norm()
        ours.load_torchvision(theirs.state_dict())
        torch.testing.assert_close(ours(images), expected, rtol=1e-9, atol=1e-9)  # float64 has 16 digits
    exported = ours.torchvision_state_dict()
    assert list(exported) == list(theirs.state_dict())
    assert all(torch.equal(exported[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.long
def test_outputs_of_the_full_network_match_torchvision_in_float32() -> None:
    torch.manual_seed(5)
    theirs, ours = models.vgg11(init_weights=False).eval(), member("vgg11", *IMAGENET).eval()
    ours.load_torchvision(theirs.state_dict())
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(images)
        # Each of 11 layers may add the rounding errors of a sum of up to 25,088 terms, which grow with its square root.
        tolerance = 11 * 25_088**0.5 * torch.finfo(torch.float32).eps
        assert (ours(images) - expected).norm() < tolerance * expected.norm()


def test_a_network_with_one_input_channel_matches_torchvision_on_grey_images() -> None:
    torch.manual_seed(5)
    theirs, ours = reduced("vgg11"), member("vgg11", "in_channels=1", *REDUCED).double().eval()
    ours.load_torchvision(theirs.state_dict())
    grey = torch.rand(2, 1, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(grey), theirs(grey.expand(-1, 3, -1, -1)), rtol=1e-9, atol=1e-9)


def test_weights_of_another_network_are_refused() -> None:
    with torch.device("meta"):
        state = models.vgg11().state_dict()
        for overrides in (["model.batch_norm=true"], ["model.head=light"], ["model.ratio=2"], ["image_size=96"]):
            with pytest.raises(RuntimeError, match="state_dict"):
                member("vgg11", *IMAGENET, *overrides).load_torchvision(state)
        with pytest.raises(ValueError, match="pool_before_norm=false"):
            member("vgg11_bn", *IMAGENET, "model.pool_before_norm=true").load_torchvision(state)


def test_local_response_norm_matches_krizhevskys_formula() -> None:
    """Section 3.3 of Krizhevsky et al. (2012): k = 2, n = 5, alpha = 1e-4, beta = 0.75, over neighbouring channels."""
    block = vgg_block([3, "lrn"], 3, 8)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.ReLU, nn.LocalResponseNorm, nn.MaxPool2d]
    a = 100 * torch.rand(2, 8, 4, 4)
    squares = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
    sums = torch.stack([squares[:, channel : channel + 5].sum(dim=1) for channel in range(8)], dim=1)
    torch.testing.assert_close(block[2](a), a / (2 + 1e-4 * sums) ** 0.75)


def test_local_response_norm_has_no_weights() -> None:
    small = ("image_size=32", "model.ratio=16", "model.hidden=8", "in_channels=3")
    theirs, ours = member("vgg11", *small), member("vgg11_lrn", *small)
    ours.load_torchvision(theirs.torchvision_state_dict())
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_column_c_ends_three_blocks_with_a_1x1_convolution() -> None:
    with torch.device("meta"):
        net = member("vgg16c")
    kernels = [layer.kernel_size[0] for layer in net.blocks.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, *[3, 3, 1] * 3]


def test_two_convolutions_without_a_relu_between_equal_one_with_a_larger_kernel() -> None:
    torch.manual_seed(5)
    block = vgg_block([3, 3], 2, 4, relu_between=False)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.Conv2d, nn.MaxPool2d, nn.ReLU]
    first, second = (layer for layer in block if isinstance(layer, nn.Conv2d))
    nn.init.zeros_(first.bias)  # type: ignore[arg-type]  # the second convolution's zero padding has no bias
    # The composed kernel: the second kernel convolved with the first.
    kernel = F.conv2d(first.weight.transpose(0, 1), second.weight.flip(2, 3), padding=2).transpose(0, 1)
    x = torch.rand(1, 2, 12, 12)
    inside = slice(1, -1)  # at the border, the second convolution pads the first one's outputs with zeros
    one = F.conv2d(x, kernel, second.bias, padding=2)[..., inside, inside]
    torch.testing.assert_close(second(first(x))[..., inside, inside], one)


@pytest.mark.parametrize(("stack", "kernel", "weights"), [([3, 3], 5, (18, 25)), ([3, 3, 3], 7, (27, 49))])
def test_a_stack_has_fewer_weights_and_the_same_receptive_field(
    stack: list[int], kernel: int, weights: tuple[int, int]
) -> None:
    """Section 2.3 of the paper: 27 C^2 weights instead of 49 C^2."""
    channels, fields = 6, []
    for convs, count in zip((stack, [kernel]), weights, strict=True):
        net = VGG([(convs, channels)], in_channels=channels, image_size=28, head="light")
        costs = [cost for cost in layer_costs(net, (channels, 28, 28), batch_size=1) if cost.kind == "Conv2d"]
        assert (
            sum(layer.weight.numel() for layer in net.modules() if isinstance(layer, nn.Conv2d)) == count * channels**2
        )
        assert sum(cost.multiply_adds for cost in costs) == count * channels**2 * 28 * 28
        fields.append(costs[-1].receptive_field)
    assert fields == [kernel, kernel]


def test_an_even_kernel_size_is_refused() -> None:
    with pytest.raises(ValueError, match="A kernel size of 4 is even"):
        VGG([([4], 8)], image_size=28)


def test_weights_with_torchvisions_names_can_be_saved_as_safetensors() -> None:
    net = member("vgg11", "image_size=32", "model.ratio=16", "model.hidden=8")
    assert safetensors.torch.save(net.torchvision_state_dict())
