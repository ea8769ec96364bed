"""PeriodicCheckpoint from elsewhere: nothing in them runs, and what does not fit is said."""

import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fashion_vgg.checkpoints import weights
from fashion_vgg.errors import UserError
from tests.conftest import Survived
from tests.faults.conftest import LONG, Training, in_the_long_set


class Bomb:
    """What a hostile checkpoint holds: unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self.marker}'",))


def command(folder: Path, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "fashion_vgg", *args]
    environment = os.environ | {"FASHION_VGG_ROOT": str(folder)} | env
    return subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True, timeout=240)


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
    undisturbed: Training, small: list[str], tmp_path: Path, survived: Survived, kind: str
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
        ["train", *small, f"model.weights={shutil.copy(hostile, tmp_path / 'last.pth')}"],
        ["train", f"resume={run}"],
        ["train", f"resume={hostile}"],
        ["train", *small, f"model.weights={run}"],
        ["test", f"weights={run}"],
        ["export", f"weights={run}"],
        ["train", *small, f"resume={shutil.copy(hostile, tmp_path / 'last.ckpt')}"],
    ]
    tries = 0
    for override in ({}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}):
        for args in lines if LONG else lines[:3] if kind == "zip" and override else lines[:1]:
            done = command(tmp_path, *args, **override)
            assert done.returncode == 2, done
            assert len(done.stderr.splitlines()) <= 2, done.stderr
            assert re.search(r"last\.(ckpt|pth) (holds more than data|is cut or altered)", done.stderr), done.stderr
            tries += 1
    assert not marker.exists()
    with hostile.open("rb") as file:  # the bomb is live
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


def test_a_checkpoint_is_not_fetched_from_an_address(
    server: str, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    lines = [["train", *small, f"resume={server}/last.ckpt"], ["test", f"weights={server}/last.ckpt"]]
    lines += [["export", f"weights={server}/last.ckpt"], ["train", *small, f"model.weights={server}/last.ckpt"]]
    for line in lines:
        done = command(tmp_path, *line)
        assert done.returncode == 2
        assert re.search(r"http:.*/last\.ckpt: there is no such (folder or )?file\.", done.stderr), done.stderr
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
        case "old":  # what the first version of this project saved: Lightning's own and the history
            kept = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks")
            content = {key: content[key] for key in (*kept, "optimizer_states", "lr_schedulers")}
            [history] = [key for key in content["callbacks"] if "History" in key]
            content["callbacks"] = {history: {"rows": content["callbacks"][history]["rows"]}}
    return content | {"state_dict": state}


WRONG = {
    "missing": r"net\S+weight is missing",
    "extra": r"net\S*more\.weight is left over",
    "shape": r"net\S+weight is \[3, 3\] there and \[8, 1, 3, 3\] in the network",
    "NaN": r"is of a training that diverged: net\S+weight is not finite",
}


LESS_LIKELY = [pytest.param(how, marks=in_the_long_set) for how in ("shape", "missing", "extra", "NaN", "compiled")]


@pytest.mark.parametrize("how", ["old", *LESS_LIKELY])
def test_what_does_not_fit_is_said_and_the_compiled_and_the_old_load(
    undisturbed: Training, small: list[str], tmp_path: Path, survived: Survived, how: str
) -> None:
    content = torch.load(undisturbed.folder / "last.ckpt", weights_only=True)
    path = tmp_path / "other.ckpt"
    torch.save(altered(content, how), path)
    resumed = command(tmp_path, "train", *small, f"resume={path}")
    tested = command(tmp_path, "test", *small, f"weights={path}")
    for done in (resumed, tested):
        if how in WRONG:
            assert done.returncode == 2, done.stdout
            assert len(done.stderr.splitlines()) <= 2
        else:
            assert done.returncode == 0, done.stderr
    if how in WRONG:
        assert re.search(WRONG[how], resumed.stderr), resumed.stderr
        assert re.search(WRONG[how].replace(r"net\S", r"\S", 1), tested.stderr), tested.stderr
    survived("a checkpoint that does not fit is said; one of a compiled network and an old one load", 2, 2)


@in_the_long_set
def test_another_architecture_is_said(undisturbed: Training, small: list[str], tmp_path: Path) -> None:
    last = undisturbed.folder / "last.ckpt"
    for args in (["test", f"weights={last}", "model=vgg8_light"], ["train", f"resume={last}", "model.ratio=2"]):
        done = command(tmp_path, *args)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) <= 2
        assert "another network" in done.stderr or "a resumed run keeps its settings" in done.stderr


def test_published_weights_are_verified(undisturbed: Training, tmp_path: Path, survived: Survived) -> None:
    path = tmp_path / "weights.safetensors"
    done = command(tmp_path, "export", f"weights={undisturbed.folder}", f"to={path}")
    assert (done.returncode, done.stdout) == (0, f"{path}\n{path}.sha256\n")
    subprocess.run(["sha256sum", "--check", f"{path}.sha256"], cwd=tmp_path, check=True, capture_output=True)
    small = undisturbed.overrides
    by_file = command(tmp_path, "test", f"weights={path}", *small)
    by_run = command(tmp_path, "test", f"weights={undisturbed.folder}")
    assert by_file.returncode == 0, by_file.stderr
    assert by_file.stdout.partition(":")[0] == by_run.stdout.partition(":")[0]
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    faults = [bytes(flipped), good[:-1], good + b"\0", b""]
    for content in faults:
        path.write_bytes(content)
        with pytest.raises(UserError, match="is cut or altered: its SHA-256 is not the one in"):
            weights.load(path)
    told = command(tmp_path, "test", f"weights={path}", *small)
    assert (told.returncode, len(told.stderr.splitlines())) == (2, 1)
    beside = path.with_name("weights.safetensors.sha256")
    beside.write_text(f"{hashlib.sha256(b'').hexdigest()}  weights.safetensors\n")
    with pytest.raises(UserError, match="holds no weights"):
        weights.load(path)
    beside.unlink()
    with pytest.raises(UserError, match="sha256 cannot be read"):
        weights.load(path)
    survived("altered published weights refused", len(faults) + 2, len(faults) + 2)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo", b"no checkpoint")
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "state.pt")
    for name, what in (("photos.zip", "cut or altered"), ("state.pt", "is no checkpoint of a training")):
        with pytest.raises(UserError, match=what):
            weights.load(tmp_path / name)
