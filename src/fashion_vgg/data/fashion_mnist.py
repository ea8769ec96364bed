"""Fashion-MNIST's four raw files: located, verified by their SHA-256, and read into memory."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from fashion_vgg.errors import UserError

Split = Literal["train", "test"]

SIDE = 28
"""Height and width of the images in pixels."""
NUM_CLASSES = 10
CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""Class names in the order of the labels, from the data set's README."""

DEBIAN_PACKAGE = "dataset-fashion-mnist"
FOLDER_IN_PACKAGE = "usr/share/datasets/fashion-mnist"
SYSTEM_FOLDER = Path("/", FOLDER_IN_PACKAGE)
"""Where the Debian package installs the files."""

# Of the uncompressed files: publishers compress them differently.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load(root: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Read one split: images, uint8 ``(N, 28, 28)``, and labels, int64 ``(N,)`` from 0 to 9.

    Raises:
        UserError: a file is missing, truncated or altered.
    """
    folder = _find_or_raise(root)
    prefix = "train" if split == "train" else "t10k"
    images = read_verified(folder, f"{prefix}-images-idx3-ubyte")
    labels = read_verified(folder, f"{prefix}-labels-idx1-ubyte")
    # Skips the IDX headers of 16 and 8 bytes: the SHA-256 covers them.
    pixels = torch.frombuffer(images, dtype=torch.uint8, offset=16).reshape(-1, SIDE, SIDE)
    return pixels, torch.frombuffer(labels, dtype=torch.uint8, offset=8).long()


def unpack(root: Path, into: Path) -> None:
    """Write the four files, uncompressed, where torchvision expects them under ``into``; errors as in `load`."""
    folder = _find_or_raise(root)
    raw_folder(into).mkdir(parents=True)
    for name in SHA256:
        (raw_folder(into) / name).write_bytes(read_verified(folder, name))


def find(root: Path) -> Path | None:
    """Return the first folder with any of the four files, plain or ``.gz``: under ``root``, or `SYSTEM_FOLDER`."""
    names = [f"{name}{suffix}" for name in SHA256 for suffix in ("", ".gz")]
    folders = (raw_folder(root), root, SYSTEM_FOLDER)
    return next((folder for folder in folders if any((folder / name).is_file() for name in names)), None)


def read_verified(folder: Path, name: str) -> bytearray:
    """Return the uncompressed content of a raw file, plain or ``.gz``.

    Raises:
        UserError: the file is missing, cannot be read, or its SHA-256 is wrong.
    """
    path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
    if not path.is_file():  # a named pipe, say, which would wait for a writer
        raise UserError(f"{folder / name} is missing: {_remedy(folder)}")
    try:
        with path.open("rb") as file:
            content = unpacked(file, name) if path.suffix == ".gz" else file.read(size(name) + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {_remedy(folder)}") from error
    if not is_intact(content, name):
        raise UserError(
            f"{path} is truncated or altered (wrong SHA-256): {_remedy(folder)} Another data set: conf/README.md."
        )
    return bytearray(content)  # writable memory, as torch requires


def unpacked(compressed: BinaryIO, name: str) -> bytes:
    """The content of a ``.gz`` file, at most one byte more than the raw file has; empty if it is damaged."""
    try:
        return gzip.GzipFile(fileobj=compressed).read(size(name) + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return b""


def is_intact(content: bytes, name: str) -> bool:
    """Whether this is the content of a raw file."""
    return hashlib.sha256(content).hexdigest() == SHA256[name]


def size(name: str) -> int:
    """The size of a raw file in bytes: a header of 16 or 8, then a byte for each pixel or label."""
    count = 60_000 if name.startswith("train") else 10_000
    return 16 + count * SIDE**2 if "images" in name else 8 + count


def raw_folder(root: Path) -> Path:
    """The folder that torchvision uses under ``root``, so that both can use one copy."""
    return root / "FashionMNIST" / "raw"


def _find_or_raise(root: Path) -> Path:
    folder = find(root)
    if folder is None:
        raise UserError(f"Fashion-MNIST is neither in {root} nor in {SYSTEM_FOLDER}.")
    return folder


def _remedy(folder: Path) -> str:
    if folder == SYSTEM_FOLDER:
        return f"reinstall the package {DEBIAN_PACKAGE}."
    return f"delete Fashion-MNIST's files in {folder} and run again to download them."
