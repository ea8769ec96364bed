"""The pictures of networks, measured as they are rendered, against the shapes of a forward pass."""

from collections.abc import Iterable
from functools import cache
from itertools import chain, combinations, groupby, islice
from math import sqrt

import pytest
import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import Tensor, nn

from fashion_vgg.config.app import CONF
from fashion_vgg.profiling import network_plot
from fashion_vgg.profiling.layers import layer_costs
from fashion_vgg.profiling.memory import StepMemory
from fashion_vgg.profiling.network_tables import NetworkCost
from tests.helpers import composed

NAMES = [
    *(f"model={path.stem}" for path in sorted((CONF / "model").glob("*.yaml"))),
    *(f"experiment=kernels/{path.stem}" for path in sorted((CONF / "experiment" / "kernels").glob("*.yaml"))),
]
DRAWN = nn.Conv2d | nn.MaxPool2d | nn.AdaptiveMaxPool2d | nn.Linear


@cache
def build(name: str) -> tuple[NetworkCost, list[list[tuple[int, ...]]]]:
    """The network of an override, at 224 px or at the size that it is meant for, and its `forward_shapes`."""
    size = ["image_size=28"] if name.endswith(("_light", "_whitening")) else []
    cfg = composed("describe", name, *size)
    with torch.device("meta"):
        net = instantiate(cfg.model)
    shape = (cfg.in_channels, cfg.image_size, cfg.image_size)
    return NetworkCost(name, shape, 2, layer_costs(net, shape, 2), StepMemory(0, 0, 0, 0)), forward_shapes(net, shape)


def forward_shapes(net: nn.Module, size: tuple[int, int, int]) -> list[list[tuple[int, ...]]]:
    """The output shapes of the image, each block, and each layer of the head."""
    outputs: list[tuple[str, tuple[int, ...]]] = []
    for name, module in net.named_modules():
        if isinstance(module, DRAWN):
            block = ".".join(name.split(".")[:2])

            def add(module: nn.Module, args: object, output: Tensor, block: str = block) -> None:
                outputs.append((block, tuple(output.shape[1:])))

            module.register_forward_hook(add)
    net(torch.empty(2, *size, device="meta"))
    blocks = [[shape for _, shape in group] for _, group in groupby(outputs, key=lambda output: output[0])]
    return [[size], *blocks]


def texts(figure: Figure) -> dict[Text, Bbox]:
    """Every text, with the rectangle in pixels that it covers."""
    figure.draw_without_rendering()
    found = [artist for artist in figure.findobj(Text) if artist.get_visible() and artist.get_text()]
    return {text: text.get_window_extent() for text in found}


def boxes(figure: Figure) -> list[list[Polygon]]:
    """Front, top and side of every box, in the order of the layers."""
    polygons = [patch for patch in figure.axes[0].patches if isinstance(patch, Polygon)]
    return [polygons[index : index + 3] for index in range(0, len(polygons), 3)]


def covered(faces: Iterable[Polygon]) -> Bbox:
    return Bbox.union([face.get_window_extent() for face in faces])


def assert_nothing_overlaps(figure: Figure) -> None:
    places, layers = texts(figure), [covered(faces) for faces in boxes(figure)]
    for (one, place), (other, another) in combinations(places.items(), 2):
        assert not place.overlaps(another), (one.get_text(), other.get_text())
    for text, place in places.items():
        assert figure.bbox.containsx(place.x0), text
        assert figure.bbox.containsx(place.x1), text
        assert figure.bbox.containsy(place.y0), text
        assert not place.count_overlaps(layers), text


@pytest.mark.parametrize("name", NAMES)
def test_boxes_are_to_scale(name: str) -> None:
    network, blocks = build(name)
    shapes = list(chain.from_iterable(blocks))
    fronts = [front.get_window_extent() for front, _, _ in boxes(network_plot.draw([network]))]
    for shape, front in zip(shapes, fronts, strict=True):
        assert front.width / fronts[0].width == pytest.approx(sqrt(shape[0]))
        if len(shape) == 3:  # a dense layer has no map
            assert front.height / fronts[0].height == pytest.approx(shape[1] / network.size[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_label_of_each_block_is_below_it(name: str) -> None:
    network, blocks = build(name)
    figure = network_plot.draw([network])
    assert_nothing_overlaps(figure)
    layers = iter(boxes(figure))
    columns = [covered(chain.from_iterable(islice(layers, len(block)))) for block in blocks]
    _, *labels = (place for text, place in texts(figure).items() if text in figure.axes[0].texts)
    above = [[column for column in columns if column.x0 < label.x1 and label.x0 < column.x1] for label in labels]
    for label, [column] in zip(labels, above, strict=True):
        assert label.y1 < column.y0
        assert label.x0 + label.x1 == pytest.approx(column.x0 + column.x1, abs=3)  # up to the grid of pixels
    assert {column.x0 for [column] in above} == {column.x0 for column in columns}


@pytest.mark.parametrize(
    ("name", "lines"),
    [  # table 1 of the paper, sections 8.1 and 8.2 of the book
        ("model=vgg16", ["image", "1 x 224 x 224", "2 x conv 3x3, 64", "224 x 224 → 112 x 112"]),
        ("model=vgg19", ["4 x conv 3x3, 512", "14 x 14 → 7 x 7", "dense 4,096", "dense 4,096", "dense 10"]),
        ("model=vgg16c", ["2 x conv 3x3, 256", "conv 1x1, 256", "56 x 56 → 28 x 28"]),
        ("model=vgg11_lrn", ["conv 3x3, 64", "local response norm", "224 x 224 → 112 x 112"]),
        ("model=vgg11_narrow", ["conv 3x3, 16", "224 x 224 → 112 x 112", "conv 3x3, 32", "112 x 112 → 56 x 56"]),
        ("model=alexnet", ["2 x conv 3x3, 384", "conv 3x3, 256", "12 x 12 → 5 x 5", "dense 4,096"]),
        ("model=vgg5_whitening", ["whitening 5x5, 32", "28 x 28 → 14 x 14"]),
        ("model=vgg8_light", ["3 x conv 3x3, 512", "7 x 7 → 3 x 3", "max pooling", "3 x 3 → 1 x 1", "dense 10"]),
        ("experiment=kernels/two_3x3_linear", ["2 x conv 3x3, 32", "no ReLU between", "7 x 7 → 3 x 3"]),
    ],
)
def test_labels_name_the_layers(name: str, lines: list[str]) -> None:
    network, _ = build(name)
    drawn = [text.get_text() for text in network_plot.draw([network]).axes[0].texts]
    assert "\n".join(lines) in "\n".join(drawn)


@pytest.mark.parametrize(
    "names",
    [
        ["model=alexnet", "model=vgg11", "model=vgg16"],
        [name for name in NAMES if name.startswith("experiment")],
        ["model=vgg8_light", "model=vgg19"],
    ],
)
def test_networks_below_one_another_do_not_overlap(names: list[str]) -> None:
    assert_nothing_overlaps(network_plot.draw([build(name)[0] for name in names]))


def test_networks_are_drawn_to_the_same_scale() -> None:
    figure = network_plot.draw([build(name)[0] for name in ("model=vgg5_light", "model=vgg11")])
    heights = [front.get_window_extent().height for front, _, _ in boxes(figure)]
    assert heights[0] / max(heights) == pytest.approx(28 / 224)
