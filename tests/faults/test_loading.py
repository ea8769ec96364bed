"""Checkpoints from elsewhere: code in them never runs, and a network that does not fit is reported."""

import hashlib
import os
import pickle
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from fashion_vgg.checkpoints import weights
from fashion_vgg.errors import UserError
from tests.conftest import Survived
from tests.faults.conftest import LONG, Training, in_the_long_set
from tests.processes.command import Command


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self.marker}'",))


def plain_pickle(content: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file)


HOSTILE: dict[str, Callable[[Any, Path], object]] = {
    "zip": torch.save,
    "legacy": partial(torch.save, _use_new_zipfile_serialization=False),
    "pickle": plain_pickle,
}


@pytest.mark.parametrize("kind", ["zip", *(pytest.param(kind, marks=in_the_long_set) for kind in ("legacy", "pickle"))])
def test_code_in_a_checkpoint_never_runs(
    undisturbed: Training, fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived, kind: str
) -> None:
    marker = tmp_path / "marker"
    content = torch.load(undisturbed.folder / "last.ckpt", weights_only=True) | {"hyper_parameters": Bomb(marker)}
    run = tmp_path / "run"
    run.mkdir()
    hostile = run / "last.ckpt"
    HOSTILE[kind](content, hostile)
    for name in ("config.yaml", ".hydra/overrides.yaml"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes((undisturbed.folder / name).read_bytes())
    lines = [
        ["test", f"weights={hostile}"],
        ["predict", f"images={undisturbed.folder / 'result.png'}", f"weights={run}"],
        ["train", *small, f"init_weights={shutil.copy(hostile, tmp_path / 'last.pth')}"],
        ["train", f"resume={run}"],
        ["train", f"resume={hostile}"],
        ["train", *small, f"init_weights={run}"],
        ["test", f"weights={run}"],
        ["export", f"weights={run}"],
        ["train", *small, f"resume={shutil.copy(hostile, tmp_path / 'last.ckpt')}"],
    ]
    tries = 0
    for env in ({}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}):
        for args in lines if LONG else lines[:3] if kind == "zip" and env else lines[:1]:
            done = fashion_vgg(*args, root=tmp_path, env=env)
            assert done.returncode == 2, done
            assert len(done.stderr.splitlines()) <= 2, done.stderr
            assert re.search(r"last\.(ckpt|pth) (holds more than data|is truncated or altered)", done.stderr), (
                done.stderr
            )
            tries += 1
    assert not marker.exists()
    with hostile.open("rb") as file:  # loaded without care, it does run
        pickle.load(file) if kind == "pickle" else torch.load(file, weights_only=False)  # noqa: S301
    assert marker.exists()
    survived("code in a checkpoint never runs", tries, tries)


@pytest.fixture
def server(undisturbed: Training) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(undisturbed.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_checkpoint_is_not_downloaded(
    server: str, fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    url = f"{server}/last.ckpt"
    lines = [["train", *small, f"resume={url}"], ["test", f"weights={url}"], ["export", f"weights={url}"]]
    lines += [["train", *small, f"init_weights={url}"]]
    for line in lines:
        done = fashion_vgg(*line, root=tmp_path)
        assert done.returncode == 2
        assert re.search(r"http:.*/last\.ckpt: no such (folder or )?file\.", done.stderr), done.stderr
    survived("a checkpoint at a URL is not loaded", len(lines), len(lines))


def altered(content: dict[str, Any], how: str) -> dict[str, Any]:
    state = dict(content["state_dict"])
    name = next(key for key in state if key.endswith("weight"))
    match how:
        case "missing":
            del state[name]
        case "extra":
            state["net.more.weight"] = torch.ones(1)
        case "shape":
            state[name] = torch.ones(3, 3)
        case "NaN":
            state[name] = torch.full_like(state[name], torch.nan)
        case "compiled":
            state = {key.replace("net.", "net._orig_mod."): value for key, value in state.items()}
    return content | {"state_dict": state}


MESSAGES = {
    "missing": r"net\S+weight is missing",
    "extra": r"net\S*more\.weight is unexpected",
    "shape": r"net\S+weight is \[3, 3\] in the file and \[8, 1, 3, 3\] in the network",
    "NaN": r"net\S+weight is not finite, since its training diverged",
}


@pytest.mark.parametrize(
    "how", ["shape", *(pytest.param(how, marks=in_the_long_set) for how in ("missing", "extra", "NaN"))]
)
def test_weights_that_do_not_fit_are_named(
    undisturbed: Training, fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived, how: str
) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(altered(torch.load(undisturbed.folder / "last.ckpt", weights_only=True), how), path)
    resumed = fashion_vgg("train", *small, f"resume={path}", root=tmp_path)
    tested = fashion_vgg("test", *small, f"weights={path}", root=tmp_path)
    assert (resumed.returncode, tested.returncode) == (2, 2), (resumed, tested)
    assert len(resumed.stderr.splitlines()) <= 2
    assert len(tested.stderr.splitlines()) <= 2
    assert re.search(MESSAGES[how], resumed.stderr), resumed.stderr
    assert re.search(MESSAGES[how].replace(r"net\S", r"\S", 1), tested.stderr), tested.stderr
    survived("weights that do not fit the network are named", 2, 2)


@in_the_long_set
def test_a_checkpoint_of_a_wrapped_compiled_network_loads(
    undisturbed: Training, fashion_vgg: Command, small: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(altered(torch.load(undisturbed.folder / "last.ckpt", weights_only=True), "compiled"), path)
    for line in (["train", *small, f"resume={path}"], ["test", *small, f"weights={path}"]):
        done = fashion_vgg(*line, root=tmp_path)
        assert done.returncode == 0, done.stderr


@in_the_long_set
def test_another_architecture_is_named(undisturbed: Training, fashion_vgg: Command, tmp_path: Path) -> None:
    last = undisturbed.folder / "last.ckpt"
    for args in (["test", f"weights={last}", "model=vgg8_light"], ["train", f"resume={last}", "model.ratio=2"]):
        done = fashion_vgg(*args, root=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) <= 2
        assert "another network" in done.stderr or "a resumed run keeps its settings" in done.stderr


@in_the_long_set
def test_published_weights_are_verified(
    undisturbed: Training, fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    path = tmp_path / "weights.safetensors"
    done = fashion_vgg("export", f"weights={undisturbed.folder}", f"to={path}", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout
    by_file = fashion_vgg("test", f"weights={path}", root=tmp_path)
    by_run = fashion_vgg("test", f"weights={undisturbed.folder}", root=tmp_path)
    assert by_file.returncode == 0, by_file.stderr
    assert by_file.stdout.partition(":")[0] == by_run.stdout.partition(":")[0]
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    faults = [bytes(flipped), good[:-1], good + b"\0", b""]
    for content in faults:
        path.write_bytes(content)
        with pytest.raises(UserError, match="is truncated or altered"):
            weights.load(path)
        refused = fashion_vgg("test", f"weights={path}", root=tmp_path)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    plain = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(nn.Linear(1, 1).state_dict(), plain)
    with pytest.raises(UserError, match="has no description of its network"):
        weights.load(plain)
    survived("altered published weights are refused", 2 * len(faults) + 1, 2 * len(faults) + 1)


def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo", b"no checkpoint")
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "state.pt")
    for name, what in (("photos.zip", "truncated or altered"), ("state.pt", "is not a training's checkpoint")):
        with pytest.raises(UserError, match=what):
            weights.load(tmp_path / name)
