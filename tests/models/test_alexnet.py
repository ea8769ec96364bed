import pytest
import torch
from torch import Tensor, nn

from fashion_vgg.models.alexnet import AlexNet

# Output shapes that section 8.1 of the book prints for an image of 224 px.
BOOK = [
    *(("Conv2d", [1, 96, 54, 54]), ("MaxPool2d", [1, 96, 26, 26]), ("Conv2d", [1, 256, 26, 26])),
    *(("MaxPool2d", [1, 256, 12, 12]), ("Conv2d", [1, 384, 12, 12]), ("Conv2d", [1, 384, 12, 12])),
    *(("Conv2d", [1, 256, 12, 12]), ("MaxPool2d", [1, 256, 5, 5]), ("Flatten", [1, 6400])),
    *(("Linear", [1, 4096]), ("Linear", [1, 4096]), ("Linear", [1, 10])),
]


def book(hidden: int) -> nn.Sequential:
    """The book's layers."""
    convolutions = [
        *(nn.Conv2d(1, 96, 11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten()),
    ]
    first = (nn.Linear(6400, hidden), nn.ReLU(), nn.Dropout(0.5))
    second = (nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(*convolutions, *first, *second, nn.Linear(hidden, 10))


def test_shapes_match_the_book() -> None:
    shapes: list[tuple[str, list[int]]] = []

    def record(module: nn.Module, _: tuple[Tensor], output: Tensor) -> None:
        shapes.append((type(module).__name__, list(output.shape)))

    with torch.device("meta"):
        net = AlexNet()
        for layer in (*net.blocks.modules(), *net.head.children()):
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.Flatten | nn.Linear):
                layer.register_forward_hook(record)
        net(torch.empty(1, 1, 224, 224))
    assert shapes == BOOK


def test_outputs_match_the_book() -> None:
    reference, net = book(hidden=64).double(), AlexNet(hidden=64).double()
    with torch.no_grad():
        for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            ours.copy_(theirs)
        images = torch.rand(2, 1, 224, 224, dtype=torch.float64)
        expected = reference.eval()(images)
        torch.testing.assert_close(net.eval()(images), expected, rtol=1e-9, atol=1e-9)  # float64 has 16 digits


def test_invalid_image_sizes_and_ratios_are_refused() -> None:
    assert AlexNet(image_size=65, hidden=8, ratio=8)(torch.rand(1, 1, 65, 65)).shape == (1, 10)
    with pytest.raises(ValueError, match="image_size=64 is too small for AlexNet's strides: use 65 or more"):
        AlexNet(image_size=64)
    with pytest.raises(ValueError, match="ratio=97 leaves a block no channel: use 1 to 96"):
        AlexNet(ratio=97)
