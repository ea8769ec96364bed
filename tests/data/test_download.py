import gzip
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

from fashion_vgg.data import download, fashion_mnist
from fashion_vgg.errors import UserError
from tests.conftest import Survived
from tests.faults.conftest import in_the_long_set
from tests.helpers import memory_growth_below

NAMES = list(fashion_mnist.SHA256)


class Mirror(http.server.ThreadingHTTPServer):
    """Serves a folder on the loopback interface and counts the requests for each file."""

    daemon_threads = True

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
        pass  # a connection that the client closes early


def mirror(folder: Path) -> AbstractContextManager[Mirror]:
    return serve(Mirror(folder))


@contextmanager
def serve(mirror: Mirror) -> Iterator[Mirror]:
    with mirror as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture
def use_mirror(monkeypatch: pytest.MonkeyPatch, no_system_copy: None) -> Callable[[int], None]:
    """Replaces torchvision's mirrors by a port on the loopback interface."""
    return lambda *ports: monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{port}/" for port in ports])


# Forks after the imports, which take seconds, and before torch starts threads.
FETCH_IN_PROCESSES = """
import json
import sys
from multiprocessing import get_context
from pathlib import Path
from torchvision.datasets import FashionMNIST
from fashion_vgg.data import download, fashion_mnist

root, processes, context = Path(sys.argv[1]), int(sys.argv[2]), get_context("fork")
FashionMNIST.mirrors = json.loads(sys.argv[3])
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
@in_the_long_set
def test_concurrent_processes_download_one_complete_copy(
    published: Path, use_mirror: Callable[[int], None], tmp_path: Path, survived: Survived
) -> None:
    root, number = tmp_path / "root", 8
    (root / ".fetch-killed").mkdir(parents=True)
    (root / ".fetch-killed" / "half").write_bytes(b"from a killed process")
    with mirror(published) as server:
        use_mirror(server.server_port)
        arguments = [str(root), str(number), json.dumps(FashionMNIST.mirrors)]
        command = [sys.executable, "-c", FETCH_IN_PROCESSES, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{[[60_000, 10_000]] * number}\n", done.stderr
    assert server.requests == {f"/{name}.gz": 1 for name in NAMES}
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == {".fetch.lock", *(f"FashionMNIST/raw/{name}" for name in NAMES)}
    survived("concurrent processes on an empty data root: one download, one complete copy", number, number)


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


class Faulty(Mirror):
    """A mirror whose answers are those of a function: it writes the response to a request."""

    def __init__(self, answer: Callable[[http.server.SimpleHTTPRequestHandler], None]) -> None:
        super().__init__(Path("/none"))
        self.RequestHandlerClass = type("Handler", (Mirror.Handler,), {"do_GET": lambda request: answer(request)})


def send(content: bytes) -> Callable[[http.server.SimpleHTTPRequestHandler], None]:
    def answer(request: http.server.SimpleHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content)

    return answer


def send_forever(block: bytes, seconds: float) -> Callable[[http.server.SimpleHTTPRequestHandler], None]:
    def answer(request: http.server.SimpleHTTPRequestHandler) -> None:
        send(b"")(request)
        with suppress(OSError):  # the client has gone
            while True:
                request.wfile.write(block)
                time.sleep(seconds)

    return answer


def end_at_once(request: http.server.SimpleHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")


def bomb() -> bytes:
    """10 GB of zeros, compressed to 10 MB; made of one compressed block, since compressing takes a minute."""
    part = gzip.compress(bytes(10_000_000), mtime=0)
    return part * 1000


ANSWERS = {
    "another file": (lambda: send(gzip.compress(b"another", mtime=0)), "is truncated, or another file"),
    "a page": (lambda: send(b"<html>Not found</html>"), "is truncated, or another file"),
    "an empty file": (lambda: send(b""), "is truncated, or another file"),
    "a gzip bomb": (lambda: send(bomb()), "is truncated, or another file"),
    "half an answer": (lambda: end_at_once, "is truncated, or another file"),
    "an endless stream": (lambda: send_forever(bytes(1 << 20), 0), "is truncated, or another file"),
    "a byte now and then": (lambda: send_forever(b"x", 0.2), "takes more than 2 s"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_faulty_mirror_costs_a_line(
    use_mirror: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    survived: Survived,
    kind: str,
) -> None:
    make, reason = ANSWERS[kind]
    root = tmp_path / "root"
    monkeypatch.setenv("PATH", str(tmp_path))  # without apt
    monkeypatch.setattr(download, "SECONDS", 2 if kind == "a byte now and then" else 60)
    with serve(Faulty(make())) as server, caplog.at_level("INFO", "fashion_vgg"):
        use_mirror(server.server_port)
        refused = pytest.raises(UserError, match="could not be downloaded: check the network")
        with memory_growth_below(5e8), refused:  # the largest file has 47 MB, and this process serves it, too
            download.fetch(root)
    assert [path.name for path in root.iterdir()] == [".fetch.lock"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3  # its start, the mirror, and apt
    assert reason in lines[1]
    survived("a faulty mirror costs a line of the log, and bounded memory, disk and time", 1, 1)


def test_the_next_mirror_is_used(published: Path, use_mirror: Callable[..., None], tmp_path: Path) -> None:
    with serve(Faulty(send(b"x"))) as faulty, mirror(published) as server:
        use_mirror(faulty.server_port, server.server_port)
        download.fetch(tmp_path)
    assert len(fashion_mnist.load(tmp_path, "test")[0]) == 10_000


def test_files_of_another_tool_stay(published: Path, use_mirror: Callable[..., None], tmp_path: Path) -> None:
    other = fashion_mnist.raw_folder(tmp_path) / ".DS_Store"
    other.parent.mkdir(parents=True)
    other.touch()
    with mirror(published) as server:
        use_mirror(server.server_port)
        download.fetch(tmp_path)
    assert {path.name for path in other.parent.iterdir()} == {other.name, *NAMES}
    assert not list(tmp_path.glob(".fetch-*"))


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
