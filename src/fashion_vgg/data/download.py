"""Downloads Fashion-MNIST once, from torchvision's mirror or else from the Debian package."""

import io
import logging
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import FashionMNIST

from fashion_vgg import atomic
from fashion_vgg.data import fashion_mnist
from fashion_vgg.data.fashion_mnist import DEBIAN_PACKAGE, FOLDER_IN_PACKAGE, SHA256, raw_folder
from fashion_vgg.errors import UserError

log = logging.getLogger(__name__)

Files = Mapping[str, bytes | bytearray]
SECONDS = 600
"""The most that a source may take."""


def fetch(folder: str | Path) -> Path:
    """Download the four files into a folder unless `fashion_mnist.find` finds them. Safe in concurrent processes.

    Returns:
        The folder, with ``~`` expanded.

    Raises:
        UserError: no source could be reached, or the folder cannot be written.
    """
    root = Path(folder).expanduser()
    try:
        if fashion_mnist.find(root):
            return root
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / ".fetch.lock"):
            if not fashion_mnist.find(root):
                _fetch_locked(root)
        return root
    except OSError as error:
        remedy = "free disk space there, or choose another folder with data.root=<folder>."
        problem = f"Fashion-MNIST cannot be written to {root} ({error.strerror or error})"
        raise UserError(f"{problem}: {remedy}") from error


def _locked(path: Path) -> AbstractContextManager[object]:
    """A lock; none on a file system without locks, where two processes may both download."""
    try:
        return FileLock(path).acquire()
    except OSError as error:
        if not atomic.lacks_locks(error):
            raise
        return nullcontext()


def _fetch_locked(root: Path) -> None:
    for leftover in root.glob(".fetch-*/"):  # from a killed process
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as staging:
        complete = Path(staging, "complete")
        complete.mkdir()
        for name, content in _download(Path(staging)).items():
            atomic.write(complete / name, content)
        raw_folder(root).parent.mkdir(exist_ok=True)
        if not raw_folder(root).exists():
            complete.replace(raw_folder(root))
        for path in complete.glob("*"):  # beside files of another tool
            path.replace(raw_folder(root) / path.name)


def _download(staging: Path) -> Files:
    """The content of the four files, from the first source with valid ones."""
    log.info("Downloading Fashion-MNIST ...")
    sources: list[Callable[[Path], Files]] = [partial(_from_mirror, mirror) for mirror in FashionMNIST.mirrors]
    for source in (*sources, _from_debian):
        try:
            return source(staging)
        except (RuntimeError, OSError, subprocess.SubprocessError, UserError) as error:
            log.info("... %s", " ".join(str(error).split()))
    remedy = f"check the network, or put {', '.join(SHA256)} (plain or .gz) into the folder set by data.root."
    raise UserError(f"Fashion-MNIST could not be downloaded: {remedy}")


def _from_mirror(mirror: str, _: Path) -> Files:
    """Download from one of torchvision's mirrors, of which nothing is expected: not its size, speed or content."""
    found: list[Files | Exception] = []

    def retrieve() -> None:
        try:
            found.append({name: _retrieve(f"{mirror}{name}.gz", name) for name in SHA256})
        except Exception as error:
            found.append(error)

    # A thread, since a server that sends a byte now and then never meets the timeout of its socket.
    thread = threading.Thread(target=retrieve, daemon=True)
    thread.start()
    thread.join(SECONDS)
    result = found[0] if found else RuntimeError(f"{mirror} takes more than {SECONDS} s.")
    if isinstance(result, Exception):
        raise result
    return result


def _retrieve(url: str, name: str) -> bytes:
    """The content of a raw file; a compressed one larger than that is not read to its end."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:  # noqa: S310 # torchvision's URLs
            content = fashion_mnist.unpacked(io.BytesIO(response.read(fashion_mnist.size(name) + 1000)), name)
    except (OSError, HTTPException) as error:
        raise RuntimeError(f"{url}: {error}") from error
    if not fashion_mnist.is_intact(content, name):
        raise RuntimeError(f"{url} is truncated, or another file (wrong SHA-256).")
    return content


def _from_debian(staging: Path) -> Files:
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
        done = subprocess.run(command, cwd=staging, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise RuntimeError(f"{command[0]} could not download {DEBIAN_PACKAGE}: {done.stderr.strip()[:200]}")
    return {name: fashion_mnist.read_verified(staging / "package" / FOLDER_IN_PACKAGE, name) for name in SHA256}
