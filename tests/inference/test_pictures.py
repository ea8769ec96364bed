"""Pictures of any kind become the images of the data set that they show."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fashion_vgg.data import fashion_mnist
from fashion_vgg.errors import UserError
from fashion_vgg.inference import pictures
from fashion_vgg.inference.predictor import load

SPLITS: tuple[fashion_mnist.Split, ...] = ("train", "test")
EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def images(data_root: Path) -> Tensor:
    return fashion_mnist.load(data_root, "test")[0]


def saved(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("split", SPLITS)
def test_the_border_tells_every_image_of_the_data_set_from_its_negative(
    data_root: Path, split: fashion_mnist.Split
) -> None:
    images, _ = fashion_mnist.load(data_root, split)
    border = torch.cat([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], dim=1).double()
    assert (border.mean(dim=1) <= 127).all()
    assert ((255 - border).mean(dim=1) > 127).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_an_image_of_the_data_set_and_its_negative_are_taken_as_they_are(images: Tensor, mode: str) -> None:
    for pixels in images[:20]:
        image = Image.fromarray(pixels.numpy())
        for shown in (image, ImageOps.invert(image)):
            assert torch.equal(pictures.read(saved(shown.convert(mode))), pixels)


def test_paths_pil_images_arrays_and_tensors_are_equal(images: Tensor, tmp_path: Path) -> None:
    image = Image.fromarray(images[0].numpy())
    image.save(tmp_path / "boot.png")
    forms: list[pictures.Picture] = [
        tmp_path / "boot.png",
        str(tmp_path / "boot.png"),
        image,
        images[0].numpy(),
        images[0],
    ]
    forms += [saved(image), images[0].unsqueeze(2).expand(-1, -1, 3)]
    assert all(torch.equal(pictures.read(form), images[0]) for form in forms)
    assert len(list(pictures.separate(images[:3]))) == 3
    assert len(list(pictures.separate(images[:3].numpy()))) == 3
    assert len(list(pictures.separate(images[0]))) == len(list(pictures.separate(image))) == 1


def test_sixteen_bits_are_read(images: Tensor) -> None:
    pixels = images[0].numpy()  # from 0 to 255
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert torch.equal(pictures.read(saved(Image.fromarray(pixels.astype(np.uint16) * 257))), images[0])


def enlarged(image: Image.Image) -> Image.Image:
    """In colour, 600x800, with black bars above and below."""
    canvas = Image.new("RGB", (600, 800))
    canvas.paste(image.resize((600, 600)).convert("RGB"), (0, 100))
    return canvas


def inverted_jpeg(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(saved(ImageOps.invert(image).resize((280, 280)), "jpeg", quality=80)))


def photograph(image: Image.Image) -> Image.Image:
    """A violet article off the centre of an unevenly lit wall, with noise."""
    rows, columns = np.mgrid[0:720, 0:960]
    article = np.zeros((720, 960, 1))
    article[160:560, 280:680, 0] = np.asarray(image.resize((400, 400))) / 255
    wall = np.stack([225 + columns / 96, 222 + rows / 72, np.full((720, 960), 215.0)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 4, wall.shape)
    return Image.fromarray((wall * (1 - article) + np.array([60, 50, 90]) * article + noise).clip(0, 255).astype("u1"))


def rotated(image: Image.Image) -> Image.Image:
    """Stored on its side, with the EXIF tag that says so."""
    turned = image.resize((280, 280)).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[EXIF_ORIENTATION] = 6
    return Image.open(io.BytesIO(saved(turned, "jpeg", exif=exif, quality=95)))


def transparent(image: Image.Image) -> Image.Image:
    """A dark article whose background is transparent."""
    large = image.resize((280, 280))
    grey = ImageOps.invert(large)
    return Image.merge("LA", (grey, large.point(lambda value: 255 * (value > 10))))


@pytest.mark.parametrize("as_picture", [enlarged, inverted_jpeg, photograph, rotated, transparent])
def test_a_picture_is_classified_as_the_image_that_it_shows(
    data_root: Path, as_picture: Callable[[Image.Image], Image.Image]
) -> None:
    """Of a hundred test images, the pictures lose at most five: 28 px have to be resampled, and edges move by one."""
    images, labels = fashion_mnist.load(data_root, "test")
    names = [fashion_mnist.CLASS_NAMES[label] for label in labels[:100]]
    predictor = load("speedrun")
    originals = [p.classes[0] for p in predictor.predict(images[:100])]
    shown = [p.classes[0] for p in predictor.predict(as_picture(Image.fromarray(i.numpy())) for i in images[:100])]
    right, still_right = (sum(a == b for a, b in zip(found, names, strict=True)) for found in (originals, shown))
    assert still_right >= right - 5
    # The first image, a boot, is beyond doubt.
    assert shown[0] == originals[0] == "ankle boot"


def test_a_set_background_is_used(images: Tensor) -> None:
    assert torch.equal(pictures.read(images[0], "light"), 255 - images[0])
    assert torch.equal(pictures.read(255 - images[0], "dark"), 255 - images[0])


def large_png(width: int, height: int) -> bytes:
    return saved(Image.new("1", (width, height)))


REFUSED = {
    "empty": (b"", "not a picture that PIL can read"),
    "text": (b"hello", "not a picture that PIL can read"),
    "truncated": (saved(Image.new("L", (200, 200), 7))[:-40], "not a picture that PIL can read, or damaged"),
    "one pixel": (saved(Image.new("L", (1, 1))), "nothing stands out"),
    "plain": (saved(Image.new("RGB", (300, 200), "white")), "nothing stands out"),
    "20,000 px": (large_png(20_000, 20_000), "more than 89 million pixels"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture that PIL"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_shows_no_article_is_refused(name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        pictures.read(content)


@pytest.mark.parametrize("array", [np.zeros((28, 28)), np.zeros((2, 28, 28), "u1"), np.zeros(5, "u1")])
def test_an_array_that_is_no_picture_is_refused(array: Any) -> None:
    with pytest.raises(UserError, match="is no picture: use uint8"):
        pictures.read(array)


def test_folders_and_patterns_name_the_pictures_in_them(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "more/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a.JPG", "b.png", "more/c.webp"]
    assert pictures.find([str(tmp_path)]) == [str(tmp_path / name) for name in names]
    assert pictures.find([f"{tmp_path}/*.png", f"{tmp_path}/notes.txt", "-"]) == [
        str(tmp_path / "b.png"),
        str(tmp_path / "notes.txt"),
        "-",
    ]
    (tmp_path / "none").mkdir()
    for name, problem in (("none", "has no picture"), ("*.gif", "no such file"), ("d.png", "no such file")):
        with pytest.raises(UserError, match=problem):
            pictures.find([str(tmp_path / name)])
