"""Fashion-MNIST's four files: found or fetched, checked byte for byte, and read into memory.

They are taken from the first of these places that has them: the user's folder, the system's (Debian's package
`dataset-fashion-mnist`), and, fetched into the user's folder, torchvision's mirror or the Debian package's archive.
"""

import gzip
import hashlib
import logging
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch import Tensor
from torchvision import datasets

from fashion_vgg import atomic
from fashion_vgg.errors import UserError

Split = Literal["train", "test"]

CLASSES = 10
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""Of the classes, by their label, as the data set's authors list them."""

log = logging.getLogger(__name__)

DEBIAN_PACKAGE = "dataset-fashion-mnist"
FOLDER_IN_PACKAGE = "usr/share/datasets/fashion-mnist"
SYSTEM_FOLDER = Path("/", FOLDER_IN_PACKAGE)

# Of the uncompressed files: publishers compress them differently.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load(root: Path, split: Split) -> tuple[Tensor, Tensor]:
    """One split in memory: images, uint8 ``(N, 28, 28)``, and labels, int64 ``(N,)`` from 0 to 9.

    Raises:
        UserError: a file is missing, cut or altered, or there is none at all (see `fetch`).
    """
    folder = _found(root)
    prefix = "train" if split == "train" else "t10k"
    images = _read_verified(folder, f"{prefix}-images-idx3-ubyte")
    labels = _read_verified(folder, f"{prefix}-labels-idx1-ubyte")
    # The IDX headers, 16 and 8 bytes, need no parsing: the hash has proven them.
    return (
        torch.frombuffer(images, dtype=torch.uint8, offset=16).reshape(-1, 28, 28),
        torch.frombuffer(labels, dtype=torch.uint8, offset=8).long(),
    )


def unpack(root: Path, into: Path) -> None:
    """Write the four files plain into torchvision's place under ``into``, for its own data set.

    Raises:
        UserError: as `load`.
    """
    folder = _found(root)
    _raw_folder(into).mkdir(parents=True)
    for name in SHA256:
        (_raw_folder(into) / name).write_bytes(_read_verified(folder, name))


def find(root: Path) -> Path | None:
    """The folder whose files are used: the first that holds any of the four, plain or as ``.gz``."""
    for folder in (_raw_folder(root), root, SYSTEM_FOLDER):
        if any((folder / f"{name}{suffix}").exists() for name in SHA256 for suffix in ("", ".gz")):
            return folder
    return None


def _found(root: Path) -> Path:
    folder = find(root)
    if folder is None:
        raise UserError(f"Fashion-MNIST is neither in {root} nor in {SYSTEM_FOLDER}.")
    return folder


def fetch(root: Path) -> None:
    """Fetch the four files into ``root`` if they are nowhere yet. Safe to call from several processes at once.

    Raises:
        UserError: no source could be reached, or ``root`` cannot be written.
    """
    try:
        if find(root):
            return
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".fetch.lock"):
            if not find(root):
                _fetch_locked(root)
    except OSError as error:
        raise UserError(
            f"Fashion-MNIST cannot be put into {root} ({error.strerror or error}): "
            "free some space there, or name another folder with data.root=<folder>."
        ) from error


def _fetch_locked(root: Path) -> None:
    for leftover in root.glob(".fetch-*/"):  # of a process that was killed
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as staging:
        whole = Path(staging, "whole")
        whole.mkdir()
        for name, content in _download(Path(staging)).items():
            atomic.write(whole / name, content)
        _raw_folder(root).parent.mkdir(exist_ok=True)
        whole.replace(_raw_folder(root))


def _download(staging: Path) -> dict[str, bytearray]:
    """The content of the four files from the first source that gives them whole."""
    log.info("Fetching Fashion-MNIST (once) ...")
    for source in (_from_torchvision, _from_debian):
        try:
            folder = source(staging)
            return {name: _read_verified(folder, name) for name in SHA256}
        except (RuntimeError, OSError, subprocess.SubprocessError, UserError) as error:
            log.info("... %s", " ".join(str(error).split()))
    raise UserError(
        "Fashion-MNIST could not be fetched: check the network, "
        f"or put {', '.join(SHA256)} (plain or .gz) into the folder that data.root names."
    )


def _from_torchvision(staging: Path) -> Path:
    with _socket_timeout(seconds=20):
        datasets.FashionMNIST(staging, download=True)
    return staging / "FashionMNIST" / "raw"


def _from_debian(staging: Path) -> Path:
    """The package's files through apt, which verifies its signature; without root, and nothing is installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise RuntimeError(f"There is no apt here for the package {DEBIAN_PACKAGE}.")
    for folder in ("lists/partial", "cache/archives/partial"):
        (staging / folder).mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={staging}/lists", "-o", f"Dir::Cache={staging}/cache"]
    # Without this, apt run by root complains that its own user cannot enter the folder.
    apt += ["-o", "APT::Sandbox::User=root"]
    for command in (
        [*apt, "update"],
        [*apt, "download", DEBIAN_PACKAGE],
        ["sh", "-c", f"dpkg-deb -x {DEBIAN_PACKAGE}_*.deb package"],
    ):
        done = subprocess.run(command, cwd=staging, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{command[0]} could not fetch {DEBIAN_PACKAGE}: {done.stderr.strip()[:200]}")
    return staging / "package" / FOLDER_IN_PACKAGE


def _read_verified(folder: Path, name: str) -> bytearray:
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    try:
        data = path.read_bytes()
        content = gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise UserError(f"{folder / name} is missing: {_way_out(folder)}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        content = b""
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {_way_out(folder)}") from error
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise UserError(f"{path} is cut or altered (its SHA-256 is wrong): {_way_out(folder)}")
    return bytearray(content)  # torch wants memory that can be written


def _way_out(folder: Path) -> str:
    if folder == SYSTEM_FOLDER:
        return f"reinstall the package {DEBIAN_PACKAGE}."
    return f"delete Fashion-MNIST's files in {folder} and run again to fetch a whole copy."


def _raw_folder(root: Path) -> Path:
    return root / "FashionMNIST" / "raw"  # torchvision's place, so that its copy serves us and ours serves it


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Without this, torchvision's download waits for ever where packets are dropped."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
