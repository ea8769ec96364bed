import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST

from fashion_vgg.data import fashion_mnist
from fashion_vgg.errors import UserError
from tests.conftest import Survived

NAMES = list(fashion_mnist.SHA256)
SPLITS: tuple[fashion_mnist.Split, ...] = ("train", "test")


@pytest.fixture(scope="session")
def published(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files as a publisher offers them: compressed."""
    folder = tmp_path_factory.mktemp("published")
    source = fashion_mnist.find(data_root)
    assert source is not None
    for name in NAMES:
        path = source / name
        content = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    return folder


@pytest.fixture
def raw(published: Path, tmp_path: Path) -> Path:
    """A private copy of the uncompressed files, where torchvision keeps them."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(gzip.decompress((published / f"{name}.gz").read_bytes()))
    return folder


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No system copy."""
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "no-system-copy")


@pytest.mark.parametrize("split", SPLITS)
def test_load_gives_what_torchvision_reads(raw: Path, split: fashion_mnist.Split) -> None:
    images, labels = fashion_mnist.load(raw.parents[1], split)
    reference = FashionMNIST(raw.parents[1], train=split == "train")
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert torch.equal(images, reference.data)
    assert torch.equal(labels, reference.targets)


def test_compressed_files_and_a_flat_folder_serve_too(published: Path, raw: Path) -> None:
    for folder in (published, raw, raw.parents[1]):
        images, labels = fashion_mnist.load(folder, "test")
        assert images.shape == (10_000, 28, 28)
        assert labels.bincount().tolist() == [1_000] * 10


def test_the_users_folder_comes_before_the_systems(
    published: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", published)
    assert fashion_mnist.find(raw.parents[1]) == raw
    assert fashion_mnist.find(tmp_path / "empty") == published
    fashion_mnist.fetch(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()  # nothing was needed


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_the_magic_number(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2] = 0x0D  # floats, in the format's own terms
    path.write_bytes(content)


def end_in_250(path: Path) -> None:
    """In a file of labels, one that there is not."""
    content = bytearray(path.read_bytes())
    content[-1] = 250
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_compressed(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1)[:-5])
    path.unlink()


def not_compressed(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.gz"))


DAMAGES = [cut, flip_a_bit, change_the_magic_number, end_in_250, empty, cut_compressed, not_compressed, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_file_is_named_with_the_way_out(
    raw: Path, name: str, damage: Callable[[Path], None], alone: None, survived: Survived
) -> None:
    damage(raw / name)
    with pytest.raises(UserError) as error:
        for split in SPLITS:
            fashion_mnist.load(raw.parents[1], split)
    message = str(error.value)
    assert str(raw / name) in message
    assert f"delete Fashion-MNIST's files in {raw} and run again" in message
    assert "\n" not in message
    survived("a damaged file of the data set refused by name", 1, 1)


def test_images_and_labels_swapped_are_refused(raw: Path, alone: None, survived: Survived) -> None:
    (raw / "train-images-idx3-ubyte").rename(raw / "swap")
    (raw / "train-labels-idx1-ubyte").rename(raw / "train-images-idx3-ubyte")
    (raw / "swap").rename(raw / "train-labels-idx1-ubyte")
    with pytest.raises(UserError, match="train-images-idx3-ubyte is cut or altered"):
        fashion_mnist.load(raw.parents[1], "train")
    survived("a damaged file of the data set refused by name", 1, 1)


class Mirror(http.server.ThreadingHTTPServer):
    """Serves a folder on the loopback, and counts the requests for each file."""

    def __init__(self, folder: Path) -> None:
        self.requests: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), partial(self.Handler, directory=folder))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.server, Mirror)
            self.server.requests[self.path] += 1
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    def handle_error(self, *args: object) -> None:
        pass  # torchvision drops the connection once it knows that there is no redirect


@contextmanager
def mirror(folder: Path) -> Iterator[Mirror]:
    with Mirror(folder) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


# A process of its own, in which torchvision's mirror is ours, and the system has no copy.
FETCH = """
import sys
from pathlib import Path
from torchvision.datasets import FashionMNIST
from fashion_vgg.data import fashion_mnist

root, FashionMNIST.mirrors[:], *md5 = sys.argv[1], [sys.argv[2]], *sys.argv[3:]
FashionMNIST.resources = [(name, md5) for (name, _), md5 in zip(FashionMNIST.resources, md5)]
fashion_mnist.SYSTEM_FOLDER = Path(root, "no-system-copy")
try:
    fashion_mnist.fetch(Path(root))
    print(len(fashion_mnist.load(Path(root), "train")[0]), len(fashion_mnist.load(Path(root), "test")[0]))
except fashion_mnist.UserError as error:
    sys.exit(str(error))
"""


def start_fetch(root: Path, port: int, published: Path, **env: str) -> "subprocess.Popen[str]":
    md5 = [hashlib.md5((published / name).read_bytes()).hexdigest() for name, _ in FashionMNIST.resources]  # noqa: S324
    command = [sys.executable, "-c", FETCH, str(root), f"http://127.0.0.1:{port}/", *md5]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=os.environ | env)


def test_eight_processes_at_once_on_an_empty_root_leave_one_whole_copy(
    published: Path, tmp_path: Path, survived: Survived
) -> None:
    root = tmp_path / "root"
    (root / ".fetch-killed").mkdir(parents=True)
    (root / ".fetch-killed" / "half").write_bytes(b"what a killed process left")
    with mirror(published) as server:
        processes = [start_fetch(root, server.server_port, published) for _ in range(8)]
        outputs = [process.communicate(timeout=120) for process in processes]
    assert [stdout.split() for stdout, _ in outputs] == [["60000", "10000"]] * 8, outputs
    # One download: torchvision asks for each file twice, the first time to follow redirects.
    assert server.requests == {f"/{name}.gz": 2 for name in NAMES}
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert left == {".fetch.lock", *(f"FashionMNIST/raw/{name}" for name in NAMES)}
    survived("processes at once on an empty root: one download, one whole copy", 8, 8)


def test_a_download_that_is_cut_leaves_nothing(published: Path, tmp_path: Path, survived: Survived) -> None:
    root, short = tmp_path / "root", tmp_path / "short"
    shutil.copytree(published, short)
    cut(short / "t10k-labels-idx1-ubyte.gz")
    with mirror(short) as server:
        process = start_fetch(root, server.server_port, published, PATH=str(tmp_path))  # where there is no apt
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "could not be fetched: check the network" in stderr.splitlines()[-1]
    assert [path.name for path in root.iterdir()] == [".fetch.lock"]
    survived("a download that is cut leaves nothing", 1, 1)


@pytest.mark.skipif(not shutil.which("apt-get"), reason="there is no apt on this system")
def test_where_the_mirror_does_not_answer_the_debian_package_serves(published: Path, tmp_path: Path) -> None:
    archive, root = tmp_path / "archive", tmp_path / "root"
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    control = "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: us\nDescription: images\n"
    (package / "DEBIAN" / "control").write_text(control)
    shutil.copytree(published, package / "usr/share/datasets/fashion-mnist")
    archive.mkdir()
    deb = archive / "dataset-fashion-mnist_1_all.deb"
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(package), str(deb)], check=True, capture_output=True)
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    entry = f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256}\n"
    (archive / "Packages").write_text(entry)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{archive} ./\n")
    config = f'Dir::Etc::SourceList "{tmp_path}/sources.list";\nDir::Etc::SourceParts "-";\n'
    (tmp_path / "apt.conf").write_text(config)

    process = start_fetch(root, 9, published, APT_CONFIG=str(tmp_path / "apt.conf"))
    stdout, stderr = process.communicate(timeout=120)
    assert stdout.split() == ["60000", "10000"], stderr
    assert sorted(path.name for path in (root / "FashionMNIST" / "raw").iterdir()) == sorted(NAMES)


def test_a_root_that_cannot_be_written_is_named(alone: None, tmp_path: Path, survived: Survived) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be put into .*/file/root .*data.root=<folder>"):
        fashion_mnist.fetch(tmp_path / "file" / "root")
    survived("a data root that cannot be written is named", 1, 1)
