import pytest
import torch
from torch import Tensor
from torchvision import transforms as reference

from fashion_vgg.data.transforms import erase, flip, resize_batch, shift


def images(count: int, smallest: int = 0) -> Tensor:
    """Random pixels from ``smallest`` to 255."""
    return torch.randint(smallest, 256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def book(x: Tensor, size: int) -> Tensor:
    """The book's transforms of each image."""
    transform = reference.Compose([reference.ToPILImage(), reference.Resize(size), reference.ToTensor()])
    return torch.stack([transform(image) for image in x])


@pytest.mark.parametrize("size", [14, 28, *range(32, 257, 32)])
@pytest.mark.parametrize("count", [1, 30])
def test_resizing_is_bit_identical_to_pil(size: int, count: int) -> None:
    assert torch.equal(resize_batch(images(count), size), book(images(count), size))


@pytest.mark.parametrize("size", [20, 27, 225, 288])
def test_other_sizes_differ_from_pil_in_few_pixels(size: int) -> None:
    difference = (resize_batch(images(30), size) - book(images(30), size)).abs()
    # Rows and columns are resized one after the other, and each time a byte may be rounded to its neighbour.
    assert difference.max() < 2.001 / 255
    assert (difference > 0).double().mean() < 0.05


def test_flip_mirrors_whole_images_with_the_probability() -> None:
    torch.manual_seed(0)
    x = images(1_000)
    flipped = flip(x, 0.3)
    mirrored = (flipped == x.flip(2)).all(dim=(1, 2))
    assert ((flipped == x).all(dim=(1, 2)) ^ mirrored).all()
    assert 250 < mirrored.sum() < 350
    assert torch.equal(flip(x, 0.0), x)
    assert torch.equal(flip(x, 1.0), x.flip(2))


def test_shift_moves_by_every_distance_in_both_directions() -> None:
    torch.manual_seed(0)
    x = images(1, smallest=1).expand(2_000, 28, 28)
    shifted = shift(x, 2)
    expected = [shifted_by(x[0], down, right) for down in range(-2, 3) for right in range(-2, 3)]
    assert torch.equal(shifted.unique(dim=0), torch.stack(expected).unique(dim=0))
    assert shifted.dtype == torch.uint8


def shifted_by(image: Tensor, down: int, right: int) -> Tensor:
    shifted = torch.zeros_like(image)
    rows, columns = (slice(max(by, 0), 28 + min(by, 0)) for by in (down, right))
    from_rows, from_columns = (slice(max(-by, 0), 28 + min(-by, 0)) for by in (down, right))
    shifted[rows, columns] = image[from_rows, from_columns]
    return shifted


def test_erase_blackens_one_whole_square_anywhere() -> None:
    torch.manual_seed(0)
    x = images(5_000, smallest=1)
    erased = erase(x, 8)
    black = erased == 0
    assert (black.sum(dim=(1, 2)) == 64).all()
    assert (black.any(dim=2).sum(dim=1) == 8).all()
    assert (black.any(dim=1).sum(dim=1) == 8).all()
    assert black[:, :8, :8].all(dim=(1, 2)).any()
    assert black[:, 20:, 20:].all(dim=(1, 2)).any()
    assert torch.equal(erased[~black], x[~black])
