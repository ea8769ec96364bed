import errno
import os
from pathlib import Path

import pytest

from fashion_vgg import atomic


def test_write_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic.write(path, "old")
    atomic.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_sweep_deletes_the_files_of_killed_processes(tmp_path: Path) -> None:
    atomic.write(tmp_path / "file", "whole")
    (tmp_path / ".file.123.fashion-vgg.part").write_text("half")
    kept = {"file", ".lock", ".movie.mkv.part", ".file.x.fashion-vgg.part", ".folder.1.fashion-vgg.part"}
    for name in kept - {".folder.1.fashion-vgg.part"}:
        (tmp_path / name).touch()
    (tmp_path / ".folder.1.fashion-vgg.part").mkdir()
    atomic.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as error:
        atomic.write(tmp_path / "missing" / "file", "")
    assert error.value.filename == str(tmp_path / "missing" / "file")
