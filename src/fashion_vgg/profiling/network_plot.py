"""Draws networks like the book's figure of VGG: a box for each layer's output, to scale."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import sqrt
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon

from fashion_vgg.profiling.network_tables import NetworkCost

KINDS = {
    "image": ("tab:gray", "image"),
    "Conv2d": ("tab:blue", "convolution, ReLU"),
    "MaxPool2d": ("tab:red", "max pooling"),
    "AdaptiveMaxPool2d": ("tab:red", "max pooling"),
    "Linear": ("tab:green", "dense layer"),
}
"""Color and label of the layers that are drawn. The other layers keep the shape."""

HEIGHT = 224.0  # of the largest image. This and the other lengths are in units of the drawing
DEPTH = (0.35, 0.28)  # a unit of depth is drawn this far to the right and up
PER_ROOT_CHANNEL = 2.0
GAP, GAP_BETWEEN_BLOCKS = 4.0, 46.0
MIN_SIDE = 3.0
TOP = HEIGHT * (1 + DEPTH[1]) / 2  # highest corner of the largest box; the lowest is at -TOP
UNITS_PER_INCH = 95.0
CHARACTER_WIDTH = 6.5
MIN_WIDTH = 5.5 * UNITS_PER_INCH  # of the legend


class Box(NamedTuple):
    """The output of a layer; ``side`` is the height and width of its feature maps, ``length`` shows their number."""

    kind: str
    length: float
    side: float


def draw(networks: Sequence[NetworkCost]) -> Figure:
    """The networks, one below the other, all to the same scale."""
    scale = HEIGHT / max(network.size[-1] for network in networks)
    figure = Figure(layout="constrained")
    panels = figure.subplots(len(networks), squeeze=False, sharex=True, sharey=True)[:, 0]
    width = max(_draw(axes, network, scale) for axes, network in zip(panels, networks, strict=True))
    for axes, network in zip(panels, networks, strict=True):
        title = textwrap.shorten(network.name, width=int(width / 7), placeholder=" ...")
        axes.text(0, TOP + 4, title, fontsize=9, va="bottom")
    panels[0].set(xlim=(-10, width), ylim=(-TOP - 40, TOP + 1))
    height = len(networks) * (2 * TOP + 60) + 50
    figure.set_size_inches((width + 10) / UNITS_PER_INCH, height / UNITS_PER_INCH)
    drawn = {cost.kind for network in networks for cost in network.layers} | {"image"}
    legend = dict.fromkeys(KINDS[kind] for kind in KINDS if kind in drawn)
    handles = [Patch(facecolor=color, alpha=0.6, label=label) for color, label in legend]
    explanation = "Height and depth: size of the feature maps, to scale. Length: square root of their number."
    with rc_context({"legend.fontsize": 8, "legend.title_fontsize": 8, "legend.frameon": False}):
        figure.legend(handles=handles, title=explanation, ncols=len(handles), loc="outside lower center")
    return figure


def _draw(axes: Axes, network: NetworkCost, scale: float) -> float:
    """Draw a network from left to right with a label below each block. Returns the width."""
    x = label_end = 0.0
    for label, boxes in _columns(network, scale):
        length = sum(box.length + GAP for box in boxes) - GAP
        width, label_width = length + DEPTH[0] * boxes[-1].side, CHARACTER_WIDTH * max(map(len, label.split("\n")))
        x = max(x, label_end + (label_width - width) / 2)  # labels do not overlap
        axes.text(x + width / 2, -TOP - 6, label, ha="center", va="top", fontsize=7)
        label_end = x + (width + label_width) / 2 + GAP
        following = x + max(length + GAP_BETWEEN_BLOCKS, width + GAP)
        for box in boxes:
            _add(axes, box, x)
            x += box.length + GAP
        x = following
    axes.set_aspect("equal")
    axes.axis("off")
    return max(x, label_end, MIN_WIDTH)


def _columns(network: NetworkCost, scale: float) -> Iterator[tuple[str, list[Box]]]:
    """Label and boxes of the image, of each block and of each dense layer."""
    yield _shape(network.size), [_box("image", network.size, scale)]
    drawn = [cost for cost in network.layers if cost.kind in KINDS]
    for _, group in groupby(drawn, key=lambda cost: cost.name.split(".")[:2]):
        costs = list(group)
        kernels = groupby(cost.kernel_size for cost in costs if cost.kind == "Conv2d")
        counts = [(kernel, len(list(run))) for kernel, run in kernels]
        convs = ", ".join(f"{f'{n} convs' if n > 1 else 'conv'} {kernel}x{kernel}" for kernel, n in counts)
        label = f"{convs}\n{_shape(costs[-1].output_shape[1:])}".lstrip()
        yield label, [_box(cost.kind, cost.output_shape[1:], scale) for cost in costs]


def _box(kind: str, shape: Sequence[int], scale: float) -> Box:
    channels, *sides = shape
    return Box(kind, PER_ROOT_CHANNEL * sqrt(channels), max(scale * (sides[-1] if sides else 1), MIN_SIDE))


def _add(axes: Axes, box: Box, x: float) -> None:
    """Front, top and right side of a box, centred vertically."""
    right, up = DEPTH[0] * box.side, DEPTH[1] * box.side
    low, high = -(box.side + up) / 2, (box.side - up) / 2
    end = x + box.length
    front = [(x, low), (end, low), (end, high), (x, high)]
    top = [(x, high), (end, high), (end + right, high + up), (x + right, high + up)]
    side = [(end, low), (end + right, low + up), (end + right, high + up), (end, high)]
    color, _ = KINDS[box.kind]
    for corners, saturation in ((front, 0.85), (top, 0.6), (side, 0.35)):
        opaque = [1 - saturation * (1 - channel) for channel in to_rgb(color)]  # hides the boxes behind
        axes.add_patch(Polygon(corners, facecolor=opaque, edgecolor="black", linewidth=0.5))


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(f"{number:,}" for number in shape)
