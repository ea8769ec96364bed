import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST

from fashion_vgg.data import download, fashion_mnist
from fashion_vgg.errors import UserError
from tests.conftest import Survived
from tests.helpers import memory_growth_below

NAMES = list(fashion_mnist.SHA256)
SPLITS: tuple[fashion_mnist.Split, ...] = ("train", "test")


@pytest.fixture(scope="session")
def unpacked(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    fashion_mnist.unpack(published, root)
    return fashion_mnist.raw_folder(root)


@pytest.fixture
def raw(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of the uncompressed files, in torchvision's folder."""
    return shutil.copytree(unpacked, fashion_mnist.raw_folder(tmp_path))


@pytest.mark.parametrize("split", SPLITS)
def test_load_matches_torchvision(raw: Path, split: fashion_mnist.Split) -> None:
    images, labels = fashion_mnist.load(raw.parents[1], split)
    reference = FashionMNIST(raw.parents[1], train=split == "train")
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert torch.equal(images, reference.data)
    assert torch.equal(labels, reference.targets)


def test_compressed_files_and_a_flat_folder_are_read_too(published: Path, raw: Path) -> None:
    for folder in (published, raw, raw.parents[1]):
        images, labels = fashion_mnist.load(folder, "test")
        assert images.shape == (10_000, 28, 28)
        assert labels.bincount().tolist() == [1_000] * 10


def test_the_users_folder_is_preferred_to_the_systems(
    published: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", published)
    assert fashion_mnist.find(raw.parents[1]) == raw
    assert fashion_mnist.find(tmp_path / "empty") == published
    download.fetch(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()  # nothing to download


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_the_magic_number(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2] = 0x0D  # IDX's type code of float32
    path.write_bytes(content)


def end_in_250(path: Path) -> None:
    """In a file of labels, an invalid label."""
    content = bytearray(path.read_bytes())
    content[-1] = 250
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate_compressed(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1)[:-5])
    path.unlink()


def not_compressed(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.gz"))


DAMAGES = [
    *(truncate, flip_a_bit, change_the_magic_number, end_in_250, empty),
    *(truncate_compressed, not_compressed, Path.unlink),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_the_error_for_a_damaged_file_names_it_and_the_remedy(
    raw: Path, name: str, damage: Callable[[Path], None], no_system_copy: None, survived: Survived
) -> None:
    damage(raw / name)
    with pytest.raises(UserError) as error:
        for split in SPLITS:
            fashion_mnist.load(raw.parents[1], split)
    message = str(error.value)
    assert str(raw / name) in message
    assert f"delete Fashion-MNIST's files in {raw} and run again" in message
    assert "\n" not in message
    survived("a damaged data file is refused by name", 1, 1)


def test_swapped_images_and_labels_are_refused(raw: Path, no_system_copy: None, survived: Survived) -> None:
    (raw / "train-images-idx3-ubyte").rename(raw / "swap")
    (raw / "train-labels-idx1-ubyte").rename(raw / "train-images-idx3-ubyte")
    (raw / "swap").rename(raw / "train-labels-idx1-ubyte")
    with pytest.raises(UserError, match="train-images-idx3-ubyte is truncated or altered"):
        fashion_mnist.load(raw.parents[1], "train")
    survived("a damaged data file is refused by name", 1, 1)


@pytest.mark.parametrize("name", [f"{NAMES[0]}.gz", NAMES[0]])
def test_a_bomb_is_not_unpacked(raw: Path, no_system_copy: None, survived: Survived, name: str) -> None:
    """10 GB of zeros: in 10 MB of gzip, or in a file with a hole."""
    (raw / NAMES[0]).unlink()
    if name.endswith(".gz"):
        (raw / name).write_bytes(gzip.compress(bytes(10_000_000), mtime=0) * 1000)
    else:
        with (raw / name).open("wb") as file:
            file.truncate(10**10)
    with memory_growth_below(3e8), pytest.raises(UserError, match=f"{name} is truncated or altered"):
        fashion_mnist.load(raw.parents[1], "train")
    survived("a file that unpacks to 10 GB is refused in bounded memory", 1, 1)


def test_a_named_pipe_is_no_data_file(raw: Path, no_system_copy: None) -> None:
    """Opening it would wait for a writer."""
    (raw / NAMES[0]).unlink()
    os.mkfifo(raw / NAMES[0])
    with pytest.raises(UserError, match=f"{NAMES[0]} is missing"):
        fashion_mnist.load(raw.parents[1], "train")
