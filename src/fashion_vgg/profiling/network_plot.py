"""Networks drawn in the manner of the seed's figure: each layer's output as a box, to the scale of its map."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon

from fashion_vgg.profiling.layers import Part
from fashion_vgg.profiling.network_tables import Network

COLOURS = {
    "image": ("tab:gray", "the image"),
    "Conv2d": ("tab:blue", "convolution, ReLU"),
    "MaxPool2d": ("tab:red", "max-pooling"),
    "AdaptiveMaxPool2d": ("tab:red", "max-pooling"),
    "Linear": ("tab:green", "dense layer"),
}
"""What is drawn; the other layers leave the shape as it is."""

HEIGHT = 224.0
"""Units of the largest image's side; the other lengths are in these."""
DEPTH = (0.35, 0.28)
"""How far to the right and up a unit of depth goes."""
PER_ROOT_CHANNEL = 2.0
GAP, GAP_BETWEEN_BLOCKS = 4.0, 46.0
LEAST_SIDE = 3.0
BELOW = -HEIGHT * (1 + DEPTH[1]) / 2
"""Where the lowest corner of the largest map is."""
UNITS_PER_INCH = 95.0
LEAST_WIDTH = 5.5 * UNITS_PER_INCH
"""What the legend needs."""


@dataclass(frozen=True)
class Box:
    """The output of a layer: ``length`` stands for its channels, ``side`` for height and width of its map."""

    kind: str
    length: float
    side: float


def draw(networks: Sequence[Network]) -> Figure:
    """One below the other, all to the same scale."""
    scale = HEIGHT / max(network.size[-1] for network in networks)
    figure = Figure(layout="constrained")
    panels = figure.subplots(len(networks), squeeze=False, sharex=True, sharey=True)[:, 0]
    width = max(_draw(axes, network, scale) for axes, network in zip(panels, networks, strict=True))
    for axes, network in zip(panels, networks, strict=True):
        title = textwrap.shorten(network.name, width=int(width / 7), placeholder=" ...")
        axes.text(0, 4 - BELOW, title, fontsize=9, va="bottom")
    height = -2 * BELOW + 40
    panels[0].set(xlim=(-10, width), ylim=(BELOW - 40, 1 - BELOW))
    figure.set_size_inches((width + 10) / UNITS_PER_INCH, (len(networks) * (height + 20) + 50) / UNITS_PER_INCH)
    kinds = {part.kind for network in networks for part in network.layers} | {"image"}
    legend = dict.fromkeys(COLOURS[kind] for kind in COLOURS if kind in kinds)
    figure.legend(
        handles=[Patch(facecolor=colour, alpha=0.6, label=label) for colour, label in legend],
        title="Height and depth: the map's, to scale. Length: the square root of the channels.",
        title_fontsize=8,
        loc="outside lower center",
        ncols=len(legend),
        frameon=False,
        fontsize=8,
    )
    return figure


def _draw(axes: Axes, network: Network, scale: float) -> float:
    """A network from left to right, its layers named below; the width that it takes."""
    x = named_to = 0.0
    channels, height, width = network.size
    image = Part("image", "image", None, (1, channels, height, width), 0, 0, 1, 1, 0, 0)
    for parts in _groups([image, *network.layers]):
        boxes, name = [_box(part, scale) for part in parts], _name(parts)
        length = sum(box.length + GAP for box in boxes) - GAP
        with_face, of_name = length + DEPTH[0] * boxes[-1].side, _width_of(name)
        x = max(x, named_to + (of_name - with_face) / 2)  # so that no two names overlap
        axes.text(x + with_face / 2, BELOW - 6, name, ha="center", va="top", fontsize=7)
        named_to = x + (with_face + of_name) / 2 + GAP
        following = max(x + length + GAP_BETWEEN_BLOCKS, x + with_face + GAP)
        for box in boxes:
            _add(axes, box, x)
            x += box.length + GAP
        x = following
    axes.set_aspect("equal")
    axes.axis("off")
    return max(x, named_to, LEAST_WIDTH)


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """The layers that are drawn, by blocks; a dense layer by itself."""
    drawn = [part for part in parts if part.kind in COLOURS]
    for _, group in groupby(drawn, key=lambda part: part.name.split(".")[:2]):
        yield list(group)


def _box(part: Part, scale: float) -> Box:
    _, channels, *sides = part.output_shape
    side = sides[-1] if sides else 1
    return Box(part.kind, PER_ROOT_CHANNEL * sqrt(channels), max(side * scale, LEAST_SIDE))


def _add(axes: Axes, box: Box, x: float) -> None:
    """Front, top and the map's own face, centred on the middle line."""
    right, up = DEPTH[0] * box.side, DEPTH[1] * box.side
    low, high = -box.side / 2 - up / 2, box.side / 2 - up / 2
    front = [(x, low), (x + box.length, low), (x + box.length, high), (x, high)]
    top = [(x, high), (x + box.length, high), (x + box.length + right, high + up), (x + right, high + up)]
    end = x + box.length
    face = [(end, low), (end + right, low + up), (end + right, high + up), (end, high)]
    colour, _ = COLOURS[box.kind]
    for corners, shade in ((front, 0.85), (top, 0.6), (face, 0.35)):
        axes.add_patch(Polygon(corners, facecolor="white", edgecolor="none"))  # nothing behind shines through
        axes.add_patch(Polygon(corners, facecolor=colour, alpha=shade, edgecolor="none"))
        axes.add_patch(Polygon(corners, fill=False, edgecolor="black", linewidth=0.5))


def _name(parts: Sequence[Part]) -> str:
    """The kernels of a block's convolutions, and the shape that it leaves."""
    _, channels, *sides = parts[-1].output_shape
    shape = " x ".join(str(number) for number in (channels, *sides))
    kernels = [part.kernel for part in parts if part.kind == "Conv2d"]
    if not sides:
        return f"{channels:,}"
    runs = [(f"{kernel} x {kernel}", len(list(run))) for kernel, run in groupby(kernels)]
    convs = ", ".join(f"{count} of {kernel}" if count > 1 else kernel for kernel, count in runs)
    return f"{convs}\n{shape}".lstrip()


def _width_of(text: str) -> float:
    """Units that a text of this size takes, about."""
    return 6.5 * max(len(line) for line in text.splitlines())
