"""Downloads Fashion-MNIST once, from torchvision's mirror or else from the Debian package."""

import logging
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock
from torchvision import datasets

from fashion_vgg import atomic
from fashion_vgg.data import fashion_mnist
from fashion_vgg.data.fashion_mnist import DEBIAN_PACKAGE, FOLDER_IN_PACKAGE, SHA256, raw_folder
from fashion_vgg.errors import UserError

log = logging.getLogger(__name__)


def fetch(root: Path) -> None:
    """Download the four files into ``root`` unless `fashion_mnist.find` finds them. Safe in concurrent processes.

    Raises:
        UserError: no source could be reached, or ``root`` cannot be written.
    """
    try:
        if fashion_mnist.find(root):
            return
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".fetch.lock"):
            if not fashion_mnist.find(root):
                _fetch_locked(root)
    except OSError as error:
        remedy = "free disk space there, or choose another folder with data.root=<folder>."
        problem = f"Fashion-MNIST cannot be written to {root} ({error.strerror or error})"
        raise UserError(f"{problem}: {remedy}") from error


def _fetch_locked(root: Path) -> None:
    for leftover in root.glob(".fetch-*/"):  # from a killed process
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as staging:
        complete = Path(staging, "complete")
        complete.mkdir()
        for name, content in _download(Path(staging)).items():
            atomic.write(complete / name, content)
        raw_folder(root).parent.mkdir(exist_ok=True)
        complete.replace(raw_folder(root))


def _download(staging: Path) -> dict[str, bytearray]:
    """The content of the four files, from the first source with valid ones."""
    log.info("Downloading Fashion-MNIST ...")
    for source in (_from_torchvision, _from_debian):
        try:
            folder = source(staging)
            return {name: fashion_mnist.read_verified(folder, name) for name in SHA256}
        except (RuntimeError, OSError, subprocess.SubprocessError, UserError) as error:
            log.info("... %s", " ".join(str(error).split()))
    remedy = f"check the network, or put {', '.join(SHA256)} (plain or .gz) into the folder set by data.root."
    raise UserError(f"Fashion-MNIST could not be downloaded: {remedy}")


def _from_torchvision(staging: Path) -> Path:
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # torchvision sets none, and waits forever if packets are dropped
    try:
        datasets.FashionMNIST(staging, download=True)
    finally:
        socket.setdefaulttimeout(default)
    return raw_folder(staging)


def _from_debian(staging: Path) -> Path:
    """Download with apt, which verifies the package's signature; works without root and installs nothing."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise RuntimeError(f"apt is not available to download the package {DEBIAN_PACKAGE}.")
    for folder in ("lists/partial", "cache/archives/partial"):
        (staging / folder).mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={staging}/lists", "-o", f"Dir::Cache={staging}/cache"]
    # Run by root, apt would switch to a user of its own, which cannot write to the folder.
    apt += ["-o", "APT::Sandbox::User=root"]
    unpack = ["sh", "-c", f"dpkg-deb -x {DEBIAN_PACKAGE}_*.deb package"]
    for command in ([*apt, "update"], [*apt, "download", DEBIAN_PACKAGE], unpack):
        done = subprocess.run(command, cwd=staging, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{command[0]} could not download {DEBIAN_PACKAGE}: {done.stderr.strip()[:200]}")
    return staging / "package" / FOLDER_IN_PACKAGE
