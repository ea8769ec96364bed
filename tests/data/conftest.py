import gzip
from pathlib import Path

import pytest

from fashion_vgg.data import fashion_mnist


@pytest.fixture(scope="session")
def published(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four compressed files, as on a mirror."""
    folder = tmp_path_factory.mktemp("published")
    source = fashion_mnist.find(data_root)
    assert source is not None
    for name in fashion_mnist.SHA256:
        content = fashion_mnist.read_verified(source, name)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    return folder


@pytest.fixture
def no_system_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "no-system-copy")
