import hashlib
import http.server
import json
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
from torchvision.datasets import FashionMNIST

from fashion_vgg.data import download, fashion_mnist
from fashion_vgg.errors import UserError
from tests.conftest import Survived

NAMES = list(fashion_mnist.SHA256)


class Mirror(http.server.ThreadingHTTPServer):
    """Serves a folder on the loopback interface and counts the requests for each file."""

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
        pass  # torchvision's first request looks for redirects and closes the connection early


@contextmanager
def mirror(folder: Path) -> Iterator[Mirror]:
    with Mirror(folder) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture
def use_mirror(published: Path, monkeypatch: pytest.MonkeyPatch, no_system_copy: None) -> Callable[[int], None]:
    """Replaces torchvision's mirrors by a port on the loopback interface."""
    resources = [
        (name, hashlib.md5((published / name).read_bytes()).hexdigest())  # noqa: S324
        for name, _ in FashionMNIST.resources
    ]
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    return lambda port: monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{port}/"])


# Forks after the imports, which take seconds, and before torch starts threads.
FETCH_IN_PROCESSES = """
import json
import sys
from multiprocessing import get_context
from pathlib import Path
from torchvision.datasets import FashionMNIST
from fashion_vgg.data import download, fashion_mnist

root, processes, context = Path(sys.argv[1]), int(sys.argv[2]), get_context("fork")
FashionMNIST.mirrors, FashionMNIST.resources = json.loads(sys.argv[3]), json.loads(sys.argv[4])
fashion_mnist.SYSTEM_FOLDER = root / "no-system-copy"
all_started = context.Barrier(processes)

def fetch_and_count(_):
    all_started.wait()
    download.fetch(root)
    return [len(fashion_mnist.load(root, split)[0]) for split in ("train", "test")]

with context.Pool(processes) as pool:
    print(pool.map(fetch_and_count, range(processes), chunksize=1))
"""


@pytest.mark.long
def test_concurrent_processes_download_one_complete_copy(
    published: Path, use_mirror: Callable[[int], None], tmp_path: Path, survived: Survived
) -> None:
    root = tmp_path / "root"
    (root / ".fetch-killed").mkdir(parents=True)
    (root / ".fetch-killed" / "half").write_bytes(b"from a killed process")
    with mirror(published) as server:
        use_mirror(server.server_port)
        arguments = [str(root), "8", json.dumps(FashionMNIST.mirrors), json.dumps(FashionMNIST.resources)]
        command = [sys.executable, "-c", FETCH_IN_PROCESSES, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{[[60_000, 10_000]] * 8}\n", done.stderr
    # One download: torchvision requests each file twice, the first time to follow redirects.
    assert server.requests == {f"/{name}.gz": 2 for name in NAMES}
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == {".fetch.lock", *(f"FashionMNIST/raw/{name}" for name in NAMES)}
    survived("concurrent processes on an empty data root: one download, one complete copy", 8, 8)


def test_a_truncated_download_leaves_no_files(
    published: Path,
    use_mirror: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    survived: Survived,
) -> None:
    root, short = tmp_path / "root", tmp_path / "short"
    shutil.copytree(published, short)
    path = short / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setenv("PATH", str(tmp_path))  # without apt
    with mirror(short) as server:
        use_mirror(server.server_port)
        with pytest.raises(UserError, match="could not be downloaded: check the network"):
            download.fetch(root)
    assert [path.name for path in root.iterdir()] == [".fetch.lock"]
    survived("a truncated download leaves no files", 1, 1)


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt is not available")
def test_the_debian_package_is_used_if_the_mirror_is_unreachable(
    published: Path, use_mirror: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive, package, root = tmp_path / "archive", tmp_path / "package", tmp_path / "root"
    (package / "DEBIAN").mkdir(parents=True)
    control = "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: us\nDescription: images\n"
    (package / "DEBIAN" / "control").write_text(control)
    shutil.copytree(published, package / fashion_mnist.FOLDER_IN_PACKAGE)
    archive.mkdir()
    deb = archive / "dataset-fashion-mnist_1_all.deb"
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(package), str(deb)], check=True, capture_output=True)
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    entry = f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256}\n"
    (archive / "Packages").write_text(entry)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{archive} ./\n")
    config = f'Dir::Etc::SourceList "{tmp_path}/sources.list";\nDir::Etc::SourceParts "-";\n'
    (tmp_path / "apt.conf").write_text(config)
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    use_mirror(9)  # the discard port: nothing listens there
    download.fetch(root)
    assert [len(fashion_mnist.load(root, split)[0]) for split in ("train", "test")] == [60_000, 10_000]
    assert sorted(path.name for path in fashion_mnist.raw_folder(root).iterdir()) == sorted(NAMES)


def test_the_error_for_a_read_only_root_names_it(no_system_copy: None, tmp_path: Path, survived: Survived) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to .*/file/root .*data.root=<folder>"):
        download.fetch(tmp_path / "file" / "root")
    survived("a data root that cannot be written is named", 1, 1)
