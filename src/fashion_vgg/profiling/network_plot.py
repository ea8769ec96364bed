"""Draws networks like the figures of papers: a box for each layer's output, to scale, and a label under each block."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from math import sqrt
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, Patch, Polygon
from matplotlib.textpath import text_to_path

from fashion_vgg.profiling.layers import LayerCost
from fashion_vgg.profiling.network_tables import NetworkCost

KINDS = {
    "image": ("tab:gray", "image"),
    "Conv2d": ("tab:blue", "convolution"),
    "WhiteningConv2d": ("tab:purple", "whitening convolution"),
    "MaxPool2d": ("tab:red", "max pooling"),
    "AdaptiveMaxPool2d": ("tab:red", "max pooling"),
    "Linear": ("tab:green", "dense layer"),
}
"""Color and legend of the layers that are drawn. The other layers keep the shape."""
CONVOLUTIONS = {"Conv2d": "conv", "WhiteningConv2d": "whitening"}
"""Their names in labels."""

# Lengths are in typographic points, like the sizes of text.
IMAGE_SIDE = 100.0  # of the largest image
DENSE_SIDE = 3.5  # a dense layer has no map
DEPTH = (0.35, 0.28)  # a unit of depth is drawn this far to the right and up
PER_ROOT_CHANNEL = 1.0
GAP, COLUMN_GAP, MARGIN = 2.5, 15.0, 8.0
TITLE, LABEL, LEGEND = 10.0, 8.0, 8.0  # sizes of text
LABEL_LINE = 10.0  # from baseline to baseline
LEGEND_WIDTH, LEGEND_HEIGHT = 400.0, 34.0


class Box(NamedTuple):
    """The output of a layer; ``side`` is the height and width of its feature maps, ``length`` shows their number."""

    kind: str
    length: float
    side: float


class Column(NamedTuple):
    """The image, a block or a dense layer: boxes on a common axis, and the lines of the label below."""

    boxes: list[Box]
    lines: list[str]

    @property
    def starts(self) -> list[float]:
        """Where each box starts on the axis, relative to the first one."""
        return [0.0, *accumulate(box.length + GAP for box in self.boxes[:-1])]

    @property
    def span(self) -> tuple[float, float]:
        """The leftmost and the rightmost corner; half of a box's depth is drawn on either side of its length."""
        boxes = [
            (start, start + box.length, DEPTH[0] * box.side / 2)
            for start, box in zip(self.starts, self.boxes, strict=True)
        ]
        return min(start - half for start, _, half in boxes), max(end + half for _, end, half in boxes)

    @property
    def width(self) -> float:
        """The width of the boxes or of the label, whichever is larger."""
        left, right = self.span
        font = FontProperties(size=LABEL)
        sizes = [text_to_path.get_text_width_height_descent(line, font, ismath=False) for line in self.lines]
        return max(right - left, *(width for width, _, _ in sizes))


def draw(networks: Sequence[NetworkCost]) -> Figure:
    """The networks, one below the other, all to the same scale."""
    scale = IMAGE_SIDE / max(network.size[-1] for network in networks)
    rows = [list(_columns(network, scale)) for network in networks]
    width = max(LEGEND_WIDTH, *(sum(column.width + COLUMN_GAP for column in row) - COLUMN_GAP for row in rows))
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    bottom = 0.0
    for network, row in zip(networks, rows, strict=True):
        name = textwrap.shorten(network.name, width=int(width / (0.7 * TITLE)), placeholder=" ...")
        axes.text(0, bottom - MARGIN, name, fontsize=TITLE, fontweight="bold", va="top")
        bottom = _draw(axes, row, bottom - MARGIN - 2 * TITLE)
    axes.set(xlim=(-MARGIN, width + MARGIN), ylim=(bottom - LEGEND_HEIGHT, 0))
    axes.axis("off")
    figure.set_size_inches((width + 2 * MARGIN) / 72, (LEGEND_HEIGHT - bottom) / 72)
    _add_legend(figure, {box.kind for row in rows for column in row[1:] for box in column.boxes})
    return figure


def _columns(network: NetworkCost, scale: float) -> Iterator[Column]:
    """The image, each block and each dense layer, from left to right."""
    yield Column([_box("image", network.size, scale)], ["image", " x ".join(map(str, network.size))])
    for _, group in groupby(network.layers, key=lambda cost: cost.name.split(".")[:2]):
        costs = list(group)
        drawn = [cost for cost in costs if cost.kind in KINDS]
        if drawn:
            boxes = [_box(cost.kind, cost.output_shape[1:], scale) for cost in drawn]
            yield Column(boxes, list(_label(drawn, [cost.kind for cost in costs])))


def _box(kind: str, shape: Sequence[int], scale: float) -> Box:
    channels, *sides = shape
    return Box(kind, PER_ROOT_CHANNEL * sqrt(channels), scale * sides[-1] if sides else DENSE_SIDE)


def _label(drawn: Sequence[LayerCost], kinds: Sequence[str]) -> Iterator[str]:
    """The lines of a block's label, given its drawn layers and the kinds of all: convolutions, then the first and the
    last map.
    """
    first, last = drawn[0], drawn[-1]
    if first.kind == "Linear":
        yield f"dense {first.output_shape[1]:,}"
        return
    convolutions = [
        f"{CONVOLUTIONS[cost.kind]} {cost.kernel_size}x{cost.kernel_size}, {cost.output_shape[1]:,}"
        for cost in drawn
        if cost.kind in CONVOLUTIONS
    ]
    for text, run in groupby(convolutions or ["max pooling"]):
        number = len(list(run))
        yield f"{number} x {text}" if number > 1 else text
    if 0 < kinds.count("ReLU") < len(convolutions):
        yield "no ReLU between"
    if "LocalResponseNorm" in kinds:
        yield "local response norm"
    shapes = first.output_shape if convolutions else first.input_shape, last.output_shape
    yield " → ".join(dict.fromkeys(" x ".join(map(str, shape[2:])) for shape in shapes))


def _draw(axes: Axes, row: Sequence[Column], top: float) -> float:
    """Draw a network from left to right with a label below each block. Returns the bottom."""
    height = row[0].boxes[0].side * (1 + DEPTH[1])
    axis, bottom, x, end = top - height / 2, top - height, 0.0, 0.0
    for column in row:
        left, right = column.span
        middle = x + column.width / 2
        start = middle - (left + right) / 2
        if x:
            _add_arrow(axes, end, start + left, axis)
        for offset, box in zip(column.starts, column.boxes, strict=True):
            _add(axes, box, start + offset, axis)
        end = start + offset + box.length
        for number, line in enumerate(column.lines, start=1):
            axes.text(middle, bottom - MARGIN / 2 - number * LABEL_LINE, line, fontsize=LABEL, ha="center")
        x += column.width + COLUMN_GAP
    return bottom - MARGIN - LABEL_LINE * max(len(column.lines) for column in row)


def _add_arrow(axes: Axes, start: float, end: float, axis: float) -> None:
    arrow = FancyArrowPatch((start, axis), (end, axis), mutation_scale=5, shrinkA=0, shrinkB=0.5)
    arrow.set(arrowstyle="-|>", linewidth=0.6, color="0.35")
    axes.add_patch(arrow)


def _add(axes: Axes, box: Box, start: float, axis: float) -> None:
    """Front, top and right side of a box, whose centre is on the axis."""
    right, up = DEPTH[0] * box.side, DEPTH[1] * box.side
    low, high = axis - (box.side + up) / 2, axis + (box.side - up) / 2
    x, end = start - right / 2, start - right / 2 + box.length
    front = [(x, low), (end, low), (end, high), (x, high)]
    top = [(x, high), (end, high), (end + right, high + up), (x + right, high + up)]
    side = [(end, low), (end + right, low + up), (end + right, high + up), (end, high)]
    color, _ = KINDS[box.kind]
    for corners, saturation in ((front, 0.85), (top, 0.6), (side, 0.35)):
        opaque = [1 - saturation * (1 - channel) for channel in to_rgb(color)]  # hides the boxes behind
        axes.add_patch(Polygon(corners, facecolor=opaque, edgecolor="black", linewidth=0.5))


def _add_legend(figure: Figure, drawn: set[str]) -> None:
    entries = dict.fromkeys(KINDS[kind] for kind in KINDS if kind in drawn)
    handles = [Patch(facecolor=color, alpha=0.6, label=label) for color, label in entries]
    explanation = "Height and depth: size of the feature maps, to scale. Length: square root of their number."
    with rc_context({"legend.fontsize": LEGEND, "legend.title_fontsize": LEGEND, "legend.frameon": False}):
        figure.legend(handles=handles, title=explanation, ncols=len(handles), loc="lower center")
