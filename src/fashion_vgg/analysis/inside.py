"""What happens inside a network: Grad-CAM, feature maps and filters, as plain torch functions.

The inputs are preprocessed images ``(N, channels, image_size, image_size)``. They are converted to the network's dtype
and device; the results are float32 on the CPU. A network must be in evaluation mode.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fashion_vgg.errors import UserError

SMALLEST_MAP = 3
"""Height and width in pixels below which a map says too little about the place for Grad-CAM."""


def grad_cam(net: nn.Module, inputs: Tensor, targets: Sequence[int] | Tensor) -> Tensor:
    """Where in each image a network finds evidence for a class: Grad-CAM (Selvaraju et al., 2017), with captum.

    As in the paper, it is computed on the output of the last convolution: in the last block whose map has at least
    `SMALLEST_MAP` pixels a side there, or in the first block if none has. A map of a single pixel says nothing about
    the place, and after pooling and ReLU most values are 0 and with them the evidence: for 79 % of the test images on
    the last map of ``experiment=speedrun``, but for 1 % on its last convolution.

    Args:
        net: the network.
        inputs: N preprocessed images.
        targets: the class of each image, N integers.

    Returns:
        ``(N, H, W)``, upsampled bilinearly to the inputs' height and width. The largest value of each image is 1; an
        image without evidence for the class is 0 everywhere.

    Raises:
        UserError: the network has no convolution.
        ModuleNotFoundError: captum is not installed.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    inputs, classes = _as_parameters(net, inputs), torch.as_tensor(targets)
    outputs = _outputs(net, _convolutions(net), inputs[:1])
    large = [layer for layer, maps in outputs if min(maps.shape[2:]) >= SMALLEST_MAP]
    method = LayerGradCam(net, large[-1] if large else outputs[0][0])
    evidence = method.attribute(inputs, classes.to(inputs.device), relu_attributions=True).detach()
    upsampled = LayerAttribution.interpolate(evidence, tuple(inputs.shape[2:]), "bilinear").squeeze(1).float().cpu()
    largest = upsampled.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, upsampled / largest, 0.0)


def feature_maps(net: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The outputs of a network's blocks, ``(N, C, H, W)`` each, first block first; UserError if it has no blocks."""
    blocks: Any = getattr(net, "blocks", None)
    if not isinstance(blocks, nn.Sequential):
        raise UserError(f"{type(net).__name__} has no blocks (net.blocks, an nn.Sequential) to look into.")
    return [maps.float().cpu() for _, maps in _outputs(net, blocks, _as_parameters(net, inputs))]


def first_filters(net: nn.Module) -> Tensor:
    """The filters of a network's first convolution, ``(out, in, k, k)``; UserError if it has none."""
    return _convolutions(net)[0].weight.detach().float().cpu().contiguous()


def _convolutions(net: nn.Module) -> list[nn.Conv2d]:
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        raise UserError(f"{type(net).__name__} has no convolution to look into.")
    return convolutions


@torch.no_grad()
def _outputs(net: nn.Module, layers: Iterable[nn.Module], inputs: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Layers and their outputs, in the order of the forward pass."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(lambda own, _, output: outputs.append((own, output))))
        net(inputs)
    return outputs


def _as_parameters(net: nn.Module, inputs: Tensor) -> Tensor:
    """The inputs with the dtype and on the device of the network."""
    return inputs.to(next(net.parameters()))
