"""Reads pictures of any size and colour as images of the data set's format: uint8 ``(28, 28)``, light on black.

The conversion follows that of the data set (Xiao et al., 2017, section 2): the border is trimmed, the longer side
becomes 28 px, the shorter side is padded, and the article is light on black.
"""

import glob
import io
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from fashion_vgg.data.fashion_mnist import SIDE
from fashion_vgg.errors import UserError

MAX_PIXELS = 89_000_000
"""PIL's limit for a picture that may be a decompression bomb."""
_WORKING_SIDE = 280
"""Larger pictures are reduced to this side first: noise averages out, and the rest takes less time."""
_TOLERANCE = 26
"""Differences from the background up to a tenth of the range belong to it."""

BLACK, WHITE = 0, 255

Background = Literal["auto", "dark", "light"]
Picture: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[Any, Any] | Tensor


def separate(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """Several pictures as they are, one picture as a sequence of one.

    An array ``(N, H, W)`` is N grey pictures, unless it is ``(H, W, 3)`` or ``(H, W, 4)``: one picture in colour.

    Raises:
        UserError: a tensor is ``(3, H, W)`` or ``(4, H, W)``, as torchvision has a picture in colour.
    """
    if isinstance(images, Tensor) and images.ndim == 3 and len(images) in (3, 4) and images.shape[1:] != (SIDE, SIDE):
        shape = tuple(images.shape)
        raise UserError(f"A tensor {shape} is ambiguous: use permute(1, 2, 0) if it is a colour picture, else a list.")
    if isinstance(images, np.ndarray | Tensor):
        return images if images.ndim == 4 or (images.ndim == 3 and images.shape[2] not in (3, 4)) else [images]
    return [images] if isinstance(images, str | os.PathLike | bytes | Image.Image) else images


def read(picture: Picture, background: Background = "auto") -> Tensor:
    """Convert a picture to the data set's format, uint8 ``(28, 28)``.

    A picture of 28x28 pixels counts as an image of the data set: at most its lightness is inverted.

    Args:
        picture: a file, its content, a PIL image, or a uint8 array or tensor ``(H, W)``, ``(H, W, 3)`` or
            ``(H, W, 4)``.
        background: of the picture. ``auto`` is ``light`` if the border's mean is above the middle grey, which is right
            for all 70,000 images of Fashion-MNIST and for their negatives. A transparent background is always found.

    Raises:
        UserError: it is not a picture that PIL can read, too large, or shows nothing.
    """
    name = str(picture) if isinstance(picture, str | os.PathLike) else "The picture"
    if isinstance(picture, np.ndarray | Tensor):
        picture = _from_array(np.asarray(picture))
    elif isinstance(picture, str | os.PathLike) and not Path(picture).is_file():
        raise UserError(f"{name}: no such file.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of PIL about unusual metadata; the size is checked here
            image = picture if isinstance(picture, Image.Image) else _open(picture)
            grey, paper = _to_grey(_upright(image))
    except Image.DecompressionBombError:
        raise UserError(f"{name}: more than {MAX_PIXELS // 10**6} million pixels. Reduce it first.") from None
    except Exception as error:  # PIL raises a dozen types
        reason = error.strerror if isinstance(error, PermissionError) else "not a picture that PIL can read, or damaged"
        raise UserError(f"{name}: {reason}.") from error
    is_light = _is_light(grey) if background == "auto" else background == "light"
    if paper == WHITE or (paper is None and is_light):
        grey = ImageOps.invert(grey)
    article = grey if grey.size == (SIDE, SIDE) else _centred(grey, None if paper is None else BLACK)
    if article is None:
        raise UserError(f"{name}: nothing stands out from the background; set background=dark or background=light.")
    return torch.from_numpy(np.array(article))


def _open(picture: str | os.PathLike[str] | bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=_formats())
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    image.draft("RGB", (_WORKING_SIDE, _WORKING_SIDE))  # JPEG: decode at a fraction of the size
    image.load()
    return image


def _formats() -> list[str]:
    """PIL's formats without EPS, for which it starts Ghostscript, IPTC, which may contain EPS, and mere names."""
    Image.init()
    return [name for name in Image.OPEN if name not in ("EPS", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG")]


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # metadata that cannot be read does not make the pixels unreadable
        return ImageOps.exif_transpose(image)
    return image


def _from_array(array: "np.ndarray[Any, Any]") -> Image.Image:
    channels = array.shape[2:]
    if array.dtype != np.uint8 or array.ndim < 2 or array.size == 0 or channels not in ((), (3,), (4,)):
        raise UserError(
            f"An array of {array.dtype} {array.shape} is no picture: "
            "use uint8 of shape (H, W), (H, W, 3) or (H, W, 4), or (N, H, W) for several grey pictures."
        )
    return Image.fromarray(array)


def _to_grey(image: Image.Image) -> tuple[Image.Image, int | None]:
    """A picture in grey; and what its transparent background was replaced by, if it is the article's background."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)), None
    if image.mode in ("I", "F"):  # 32 bits per pixel, without a known range
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = values.min(), values.max()
        return Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).round().astype(np.uint8)), None
    if not image.has_transparency_data:
        return image.convert("L"), None
    grey, alpha = image.convert("LA").split()
    opaque = np.asarray(alpha) > 127
    paper = WHITE if opaque.any() and np.asarray(grey)[opaque].mean() < 128 else BLACK
    is_cut_out = (_border(alpha) <= 127).mean() > 0.2  # not a picture with round corners
    return Image.composite(grey, Image.new("L", grey.size, paper), alpha), paper if is_cut_out else None


def _border(grey: Image.Image) -> "np.ndarray[Any, Any]":
    pixels = np.asarray(grey)
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _is_light(grey: Image.Image) -> bool:
    return bool(_border(grey).mean() > 127)


def _centred(grey: Image.Image, level: int | None) -> Image.Image | None:
    """Remove the background, trim it, use the whole range of grey, and pad to a square of the data set's size.

    None if nothing differs from the background, whose ``level`` is found at the border if it is None.
    """
    grey = grey.copy()
    grey.thumbnail((_WORKING_SIDE, _WORKING_SIDE))
    level = int(np.median(_border(grey))) if level is None else level
    grey = grey.point([value - level if value - level > _TOLERANCE else 0 for value in range(256)])
    box = grey.filter(ImageFilter.MedianFilter(3)).getbbox()  # without single bright pixels
    if box is None:
        return None
    article = grey.crop(box)
    brightest = int(np.asarray(article).max())
    if not brightest:  # noise
        return None
    article = article.point([min(255, value * 255 // brightest) for value in range(256)])
    square = Image.new("L", (max(article.size),) * 2)
    square.paste(article, ((square.width - article.width) // 2, (square.height - article.height) // 2))
    return square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def find(names: Iterable[str]) -> list[str]:
    """The files that names of files, folders and glob patterns stand for; ``-`` stands for the standard input.

    Of a folder, all files with the extension of a format that `read` takes, also in its subfolders, sorted by name.

    Raises:
        UserError: a name stands for no file.
    """
    formats = _formats()
    extensions = {extension for extension, name in Image.registered_extensions().items() if name in formats}
    files = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            found = sorted(str(f) for f in path.rglob("*") if f.suffix.lower() in extensions and f.is_file())
        elif name == "-" or path.exists():
            found = [str(path)]
        else:
            found = sorted(f for f in glob.glob(str(path), recursive=True) if Path(f).is_file())  # noqa: PTH207
        if not found:
            what = "the folder has no picture" if path.is_dir() else "no such file, and no file matches it"
            raise UserError(f"images={name}: {what}.")
        files += found
    return files
