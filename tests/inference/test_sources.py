"""Which weights a name means, and what an exported file says about them."""

from pathlib import Path

import pytest
import torch

from fashion_vgg.checkpoints import published
from fashion_vgg.errors import UserError
from fashion_vgg.inference import sources
from tests.helpers import finish, leave


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))
    return tmp_path / "outputs"


def with_validation(folder: Path, accuracy: float) -> Path:
    row = {"epoch": 1, "val/acc": accuracy, "test/acc": 1 - accuracy}
    return leave(folder, [], [row], final=row, best=row, wall_seconds=1.0)


def test_without_a_finished_run_the_weights_in_the_package_are_used(outputs: Path) -> None:
    leave(outputs / "train/2026-01-01/00-00-00-a", [])
    assert sources.find(None) == sources.find("speedrun") == sources.SPEEDRUN
    for name, problem in (("last", "no run is finished"), ("best", "no finished run has a validation split")):
        with pytest.raises(UserError, match=problem):
            sources.find(name)
    with pytest.raises(UserError, match="weights=lsat: no such folder or file"):
        sources.find("lsat")


def test_last_is_the_newest_and_best_was_not_chosen_on_the_test_set(outputs: Path) -> None:
    best = with_validation(outputs / "train/2026-01-01/00-00-00-a", 0.93)
    with_validation(outputs / "train/2026-01-02/00-00-00-b", 0.92)
    newest = finish(outputs / "train/2026-01-03/00-00-00-c", [], 0.99)  # without a validation split
    leave(outputs / "train/2026-01-04/00-00-00-d", [])  # unfinished
    assert sources.find(None) == sources.find("last") == newest
    assert sources.find("best") == best
    assert sources.find("null") == newest
    assert sources.find(str(newest / "config.yaml")) == newest / "config.yaml"


CARD = {"command": "fashion-vgg train", "classes": ["a", "b"]}


def test_an_exported_file_is_equal_and_contains_its_checksum(tmp_path: Path) -> None:
    state = {"w": torch.randn(3, 2).to(torch.bfloat16), "n": torch.tensor(7), "empty": torch.zeros(0, 2)}
    for name in ("one", "other"):
        published.write(tmp_path / name, state, CARD)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    read, card = published.read(tmp_path / "one")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], value) and read[name].dtype == value.dtype for name, value in state.items())
    assert card.pop("sha256") != ""
    assert card == CARD


def test_any_altered_byte_of_an_exported_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    published.write(path, {"w": torch.arange(6.0).reshape(3, 2)}, CARD)
    good = path.read_bytes()
    assert published.read(path)
    for place in range(len(good)):
        flipped = bytearray(good)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"is truncated or altered|has no description of its network"):
            published.read(path)
    for content in (good[:-1], good + b"\0", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is truncated or altered"):
            published.read(path)
