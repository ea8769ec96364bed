import pytest
import torch
from torch import Tensor, nn

from fashion_vgg.models.alexnet import AlexNet

# What the book's section on AlexNet prints for an image of 224 px.
BOOK = [
    *(("Conv2d", [1, 96, 54, 54]), ("MaxPool2d", [1, 96, 26, 26]), ("Conv2d", [1, 256, 26, 26])),
    *(("MaxPool2d", [1, 256, 12, 12]), ("Conv2d", [1, 384, 12, 12]), ("Conv2d", [1, 384, 12, 12])),
    *(("Conv2d", [1, 256, 12, 12]), ("MaxPool2d", [1, 256, 5, 5]), ("Flatten", [1, 6400])),
    *(("Linear", [1, 4096]), ("Linear", [1, 4096]), ("Linear", [1, 10])),
]


def book() -> nn.Sequential:
    """The book's layers, one after another."""
    convolutions = [
        *(nn.Conv2d(1, 96, 11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten()),
    ]
    hidden = [nn.Linear(6400, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*convolutions, *hidden, nn.Linear(4096, 10))


def test_the_shapes_are_the_books() -> None:
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


def test_the_outputs_are_the_books_from_weights_copied_by_position() -> None:
    reference, net = book(), AlexNet()
    with torch.no_grad():
        for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            ours.copy_(theirs)
        images = torch.rand(2, 1, 224, 224)
        torch.testing.assert_close(net.eval()(images), reference.eval()(images), rtol=1e-4, atol=1e-6)


def test_sizes_and_ratios_that_do_not_fit_are_refused() -> None:
    assert AlexNet(image_size=65, hidden=8, ratio=8)(torch.rand(1, 1, 65, 65)).shape == (1, 10)
    with pytest.raises(ValueError, match="image_size=64 is too small for AlexNet's strides: use 65 or more"):
        AlexNet(image_size=64)
    with pytest.raises(ValueError, match="ratio=97 leaves a block no channel: use 1 to 96"):
        AlexNet(ratio=97)
