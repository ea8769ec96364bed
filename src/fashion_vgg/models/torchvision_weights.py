"""Torchvision's names for the tensors of a VGG, and what its weights need to fit ours."""

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn


def torchvision_names(net: nn.Module) -> dict[str, str]:
    """The name of each tensor of a `fashion_vgg.models.VGG`, and its name in ``torchvision.models.VGG``.

    There the layers of all blocks are counted through, a block's pooling as its last; a local response normalisation,
    which torchvision does not have and which has no weights, is none, and so is the flattening. The light head keeps
    its names.

    Raises:
        ValueError: the network pools before a norm, which none of torchvision's does.
    """
    layers: list[str] = []
    for number, block in enumerate(net.get_submodule("blocks").children()):
        if any(isinstance(a, nn.MaxPool2d) and isinstance(b, nn.BatchNorm2d) for a, b in pairwise(block.children())):
            raise ValueError("torchvision's VGGs pool after the norm: use pool_before_norm=false.")
        counted = [child for child in block.named_children() if not isinstance(child[1], nn.LocalResponseNorm)]
        in_order = sorted(counted, key=lambda child: isinstance(child[1], nn.MaxPool2d))
        layers += [f"blocks.{number}.{place}" for place, _ in in_order]
    theirs = {layer: f"features.{count}" for count, layer in enumerate(layers)}
    head = [layer for layer in net.get_submodule("head").children() if not isinstance(layer, nn.Flatten)]
    if isinstance(head[0], nn.Linear):
        theirs |= {f"head.{place + 1}": f"classifier.{place}" for place in range(len(head))}
    split = {name: name.rpartition(".") for name in net.state_dict()}
    return {name: f"{theirs.get(layer, layer)}.{tensor}" for name, (layer, _, tensor) in split.items()}


def renamed(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """A state of torchvision's under our names, with the first layer's weights as the network's channels want them.

    Raises:
        ValueError: as `torchvision_names`.
    """
    ours = {theirs: name for name, theirs in torchvision_names(net).items()}
    return summed_over_colours({ours.get(name, name): value for name, value in state.items()}, net)


def summed_over_colours(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The state with the first layer's weights summed over its input channels, where the network has one and it more.

    A grey image ``(N, 1, H, W)`` then gives what three equal channels give under the weights as they were.
    """
    name, own = next((name, value) for name, value in net.state_dict().items() if value.ndim == 4)
    first = state.get(name)
    if first is None or first.ndim != 4 or own.shape[1] != 1:
        return dict(state)
    return {**state, name: first.sum(dim=1, keepdim=True)}
