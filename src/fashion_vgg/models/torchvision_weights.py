"""Converts weights between `fashion_vgg.models.VGG` and ``torchvision.models.VGG``."""

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn


def torchvision_names(net: nn.Module) -> dict[str, str]:
    """Map the names in a VGG's ``state_dict`` to torchvision's names, in order.

    Torchvision numbers the layers of all blocks consecutively and has no local response normalization. Its pooling
    layers follow the ReLU, but neither has weights, so the numbers of the other layers agree. A light head, which
    torchvision does not have, keeps its names.

    Raises:
        ValueError: the network pools before a batch norm, which no VGG of torchvision does.
    """
    if (nn.MaxPool2d, nn.BatchNorm2d) in pairwise(map(type, net.modules())):
        raise ValueError("torchvision's VGGs pool after the norm: use pool_before_norm=false.")
    modules = net.get_submodule("blocks").named_modules(prefix="blocks")
    features = [name for name, layer in modules if not isinstance(layer, nn.Sequential | nn.LocalResponseNorm)]
    layers = {name: f"features.{index}" for index, name in enumerate(features)}
    flatten, *classifier = net.get_submodule("head").children()
    if isinstance(flatten, nn.Flatten):  # else it is a light head
        layers |= {f"head.{index + 1}": f"classifier.{index}" for index in range(len(classifier))}
    split = [name.rpartition(".") for name in net.state_dict()]
    return {f"{layer}.{tensor}": f"{layers.get(layer, layer)}.{tensor}" for layer, _, tensor in split}


def from_torchvision(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Convert a ``state_dict`` of torchvision to the network's names and number of input channels.

    Names that torchvision's network does not have are kept. Errors are those of `torchvision_names`.
    """
    names = {theirs: ours for ours, theirs in torchvision_names(net).items()}
    return sum_input_channels({names.get(name, name): value for name, value in state.items()}, net)


def sum_input_channels(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Sum the first convolution's weights over its input channels, if the network has one input channel.

    The network's output for a grey image ``(N, 1, H, W)`` is then the original network's output for that image with its
    channel repeated.
    """
    name, own = next((name, value) for name, value in net.state_dict().items() if value.ndim == 4)
    if own.shape[1] == 1 and name in state and state[name].ndim == 4:
        return {**state, name: state[name].sum(dim=1, keepdim=True)}
    return dict(state)
