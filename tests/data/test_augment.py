import torch
from torch import Tensor

from fashion_vgg.data.augment import erase, flip, shift


def images(count: int) -> Tensor:
    return torch.randint(1, 256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_an_image_is_flipped_whole_or_not_at_all() -> None:
    torch.manual_seed(0)
    x = images(1_000)
    flipped = flip(x, 0.3)
    mirrored = (flipped == x.flip(2)).all(dim=(1, 2))
    assert ((flipped == x).all(dim=(1, 2)) ^ mirrored).all()
    assert 250 < mirrored.sum() < 350
    assert torch.equal(flip(x, 0.0), x)
    assert torch.equal(flip(x, 1.0), x.flip(2))


def test_an_image_is_moved_by_each_distance_in_both_directions() -> None:
    torch.manual_seed(0)
    x = images(1).expand(2_000, 28, 28)
    moved = shift(x, 2)
    seen = set()
    for image in moved.unique(dim=0):
        [found] = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(image, black_from_the_edges(x[0], down, right))
        ]
        seen.add(found)
    assert len(seen) == 25
    assert moved.dtype == torch.uint8


def black_from_the_edges(image: Tensor, down: int, right: int) -> Tensor:
    moved = image.roll((down, right), dims=(0, 1))
    for dimension, distance in enumerate((down, right)):
        edge = range(distance) if distance > 0 else range(28 + distance, 28)
        moved = moved.index_fill(dimension, torch.tensor(list(edge), dtype=torch.long), 0)
    return moved


def test_a_whole_square_is_erased_anywhere() -> None:
    torch.manual_seed(0)
    x = images(5_000)
    erased = erase(x, 8)
    black = erased == 0
    assert (black.sum(dim=(1, 2)) == 64).all()
    assert (black.any(dim=2).sum(dim=1) == 8).all()
    assert (black.any(dim=1).sum(dim=1) == 8).all()
    assert black[:, :8, :8].all(dim=(1, 2)).any()
    assert black[:, 20:, 20:].all(dim=(1, 2)).any()
    assert torch.equal(erased[~black], x[~black])
