"""Pictures of any kind become the images of the data set that they show."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from fashion_vgg.data import fashion_mnist
from fashion_vgg.errors import UserError
from fashion_vgg.inference import pictures
from fashion_vgg.inference.predictor import load

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def images(data_root: Path) -> Tensor:
    return fashion_mnist.load(data_root, "test")[0]


def saved(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("split", ["test", pytest.param("train", marks=pytest.mark.thorough)])
def test_every_image_of_the_data_set_is_told_from_its_negative(data_root: Path, split: fashion_mnist.Split) -> None:
    for pixels in fashion_mnist.load(data_root, split)[0]:
        assert torch.equal(pictures.read(pixels), pixels)
        assert torch.equal(pictures.read(255 - pixels), pixels)


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


def test_a_tensor_with_the_channels_first_is_not_taken_for_three_pictures() -> None:
    colour = torch.zeros(3, 40, 40, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"A tensor \(3, 40, 40\) is ambiguous: use permute\(1, 2, 0\)"):
        pictures.separate(colour)
    assert len(list(pictures.separate(colour.permute(1, 2, 0)))) == 1
    assert len(list(pictures.separate(list(colour)))) == 3


@pytest.mark.parametrize("brightest", [255, 200])
def test_sixteen_bits_are_the_same_picture(images: Tensor, brightest: int) -> None:
    pixels = images[0].clamp(max=brightest)
    deep = pixels.numpy().astype(np.uint16) * 257
    assert torch.equal(pictures.read(saved(Image.fromarray(deep))), pixels)


def test_floats_are_stretched_and_may_contain_nan(images: Tensor) -> None:
    values = images[0].numpy().astype(np.float32) / 51 - 1
    values[0, 0] = np.nan
    read = pictures.read(saved(Image.fromarray(values), "tiff"))
    assert (read.int() - images[0].int()).abs().flatten()[1:].max() <= 1


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
    opaque = Image.fromarray(images[0].numpy()).convert("RGBA")  # as many programs save any picture
    assert torch.equal(pictures.read(opaque, "light"), 255 - images[0])


def test_a_transparent_background_may_be_in_the_corners_only() -> None:
    alpha = Image.new("L", (60, 60), 0)
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, 59, 59), radius=12, fill=255)
    read = pictures.read(Image.merge("LA", (Image.new("L", alpha.size, 20), alpha)))
    assert read[14, 14] == 255
    assert read[0, 0] < 10  # resampled


def test_single_transparent_pixels_are_no_background(images: Tensor) -> None:
    for grey, light in ((images[0], False), (255 - images[0], True)):
        picture = Image.fromarray(grey.numpy()).resize((280, 280)).convert("LA")
        picture.putpixel((0, 0), (0, 0))
        expected = pictures.read(Image.fromarray(images[0].numpy()).resize((280, 280)))
        for background in ("auto", "light" if light else "dark"):
            read = pictures.read(picture, background)
            assert (read.int() - expected.int()).abs().float().mean() < 3


def test_noise_is_no_article() -> None:
    noise = np.zeros((90, 90), np.uint8)
    noise[40:43, 40:43] = [[255, 0, 255], [0, 0, 255], [255, 0, 255]]
    with pytest.raises(UserError, match="nothing stands out from the background"):
        pictures.read(noise)


def test_a_rectangle_keeps_its_darker_half() -> None:
    picture = Image.new("L", (100, 100), 255)
    picture.paste(60, (30, 30, 50, 70))
    picture.paste(120, (50, 30, 70, 70))
    read = pictures.read(picture)
    assert read[:, :12].min() > read[:, 16:].max()
    assert read[:, 16:].min() > 100


def test_a_transparent_background_needs_no_setting(images: Tensor) -> None:
    grey = Image.fromarray(images[0].numpy())
    for article in (grey, ImageOps.invert(grey)):
        picture = Image.merge("LA", (article, grey.point(lambda value: 255 * (value > 10))))
        read = [pictures.read(picture, background) for background in ("auto", "dark", "light")]
        assert torch.equal(read[0], read[1])
        assert torch.equal(read[0], read[2])
        assert read[0].max() > 127


def test_metadata_that_cannot_be_read_does_not_matter(images: Tensor) -> None:
    chunk = PngInfo()
    chunk.add(b"eXIf", b"no metadata")
    assert torch.equal(pictures.read(saved(Image.fromarray(images[0].numpy()), pnginfo=chunk)), images[0])


def test_a_line_is_read() -> None:
    line = Image.new("L", (400, 300))
    line.paste(255, (5, 100, 395, 104))
    read = pictures.read(line)
    assert read.shape == (28, 28)
    assert read.max() > 0


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def iptc(content: bytes) -> bytes:
    """A picture in PIL's IPTC format, whose content may be in any format."""

    def record(tag: tuple[int, int], data: bytes) -> bytes:
        return bytes([0x1C, *tag]) + len(data).to_bytes(2, "big") + data

    size = [record((3, 20), (9).to_bytes(2, "big")), record((3, 30), (9).to_bytes(2, "big"))]
    return b"".join([record((3, 60), b"\x01\x00"), *size, record((3, 120), b"\x05"), record((8, 10), content)])


@pytest.mark.parametrize("content", [EPS, iptc(EPS)], ids=["eps", "iptc"])
def test_no_program_is_started_for_a_picture(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(UserError, match="not a picture that PIL can read"):
        pictures.read(content)
    assert not (tmp_path / "started").exists()
    with suppress(OSError):  # without care it is started; the fake one makes no picture
        Image.open(io.BytesIO(content)).load()
    assert (tmp_path / "started").exists()


def large_png(width: int, height: int) -> bytes:
    return saved(Image.new("1", (width, height)))


REFUSED = {
    "empty": (b"", "The picture: not a picture that PIL can read"),
    "text": (b"hello", "not a picture that PIL can read"),
    "truncated": (saved(Image.new("L", (200, 200), 7))[:-40], "not a picture that PIL can read, or damaged"),
    "one pixel": (saved(Image.new("L", (1, 1))), "The picture: nothing stands out"),
    "plain": (saved(Image.new("RGB", (300, 200), "white")), "nothing stands out"),
    "20,000 px": (large_png(20_000, 20_000), "more than 89 million pixels"),
    "lab": (saved(Image.new("LAB", (30, 30)), "tiff"), "not a picture that PIL can read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_shows_no_article_is_refused(name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        pictures.read(content)


@pytest.mark.parametrize(
    "array", [np.zeros((28, 28)), np.zeros((2, 28, 28), "u1"), np.zeros(5, "u1"), np.zeros((0, 5), "u1")]
)
def test_an_array_that_is_no_picture_is_refused(array: Any) -> None:
    with pytest.raises(UserError, match="is no picture: use uint8"):
        pictures.read(array)


def test_folders_and_patterns_name_the_pictures_in_them(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "manual.pdf", "more/c.webp", "folder.png/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a.JPG", "b.png", "more/c.webp"]
    assert pictures.find([str(tmp_path)]) == [str(tmp_path / name) for name in names]
    assert pictures.find([f"{tmp_path}/*.p*", f"{tmp_path}/notes.txt", "-"])[0] == str(tmp_path / "b.png")
    assert pictures.find([f"{tmp_path}/b*", f"{tmp_path}/notes.txt", "-"]) == [
        str(tmp_path / "b.png"),
        str(tmp_path / "notes.txt"),
        "-",
    ]
    (tmp_path / "none").mkdir()
    for name, problem in (("none", "has no picture"), ("*.gif", "no such file"), ("d.png", "no such file")):
        with pytest.raises(UserError, match=problem):
            pictures.find([str(tmp_path / name)])
