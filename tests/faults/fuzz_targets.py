"""Readers of files from elsewhere, as functions of a file's bytes: for scripts/fuzz.py, and for test_corpus.py.

A target writes the bytes into a new folder, where its readers expect them. A reader either succeeds or raises
`UserError` with one or two lines. Anything else is a finding: another exception, a process that is started, a result
that is not what the file says.
"""

import hashlib
import io
import json
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fashion_vgg.checkpoints import checkpoint_io, published, resume, weights
from fashion_vgg.config import names, overrides, targets
from fashion_vgg.data import fashion_mnist
from fashion_vgg.errors import UserError
from fashion_vgg.inference import model_card
from fashion_vgg.models import VGG
from fashion_vgg.runs.comparison import compare
from fashion_vgg.runs.run import find_runs
from fashion_vgg.sweeps import record, sweep_folder
from tests.helpers import assert_same

Target = Callable[[bytes, Path], None]
T = TypeVar("T")

_RECORDS = rb"[ab]/(?:config\.yaml|\.hydra/overrides\.yaml|summary\.json|outcome\.json|metrics\.csv)"
_CONFIGS = rb"config\.yaml|group/(?:option|hydra)\.yaml|hydra/callbacks/option\.yaml"
SECTION = re.compile(rb"^== (" + _RECORDS + b"|" + _CONFIGS + rb")\n", re.MULTILINE)
"""Of an input that is several files: the line before a file."""
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")
_running = False


def run(target: str, data: bytes) -> None:
    """Pass the bytes to a target; a finding is an exception. SystemExit is one that no reader catches."""
    global _running
    _watch_processes()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    _running = True
    try:
        TARGETS[target](data, folder)
    finally:
        _running = False
        shutil.rmtree(folder)


@cache
def _watch_processes() -> None:
    def refuse(event: str, arguments: object) -> None:
        if _running and event in _FORBIDDEN:
            raise SystemExit(f"A file from elsewhere caused {event}{arguments}.")

    sys.addaudithook(refuse)  # for the rest of this process


def attempt(read: Callable[..., T], *arguments: Any) -> T | None:
    """The reader's result, or None if it refuses the file."""
    try:
        return read(*arguments)
    except UserError as error:
        message = str(error)
    assert 1 <= len(message.splitlines()) <= 2, message
    return None


@cache
def network() -> VGG:
    """A network of a few weights, whose names torchvision's can be converted to."""
    return VGG([(1, 2)], num_classes=2, image_size=2, hidden=2, batch_norm=True)


def checkpoint(data: bytes, folder: Path) -> None:
    """A training's checkpoint, resumed from, and its weights for another command."""
    path = folder / "last.ckpt"
    path.write_bytes(data)
    content = attempt(checkpoint_io.load, path)
    if content is not None:
        assert_same(_tensors(_read_part_by_part(path)), _tensors(content), "")
    attempt(resume._newest_that_loads, [path])
    state = attempt(weights.load, path)
    matching = None if state is None else attempt(weights.matching, state, network())
    if matching is not None:
        network().load_state_dict(matching)
        assert not checkpoint_io.not_finite(network().state_dict())


def initial(data: bytes, folder: Path) -> None:
    """Initial weights, also in torch's format without checksums."""
    path = folder / "weights.pth"
    path.write_bytes(data)
    attempt(weights.initialize, network(), path)
    assert not checkpoint_io.not_finite(network().state_dict())


def safetensors(data: bytes, folder: Path) -> None:
    """Published weights and their description."""
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    attempt(published.read_card, path)
    state = attempt(weights.load, path)
    if state is not None:
        published.write(folder / "again.safetensors", *published.read(path))
        assert_same(published.read(path), published.read(folder / "again.safetensors"), "")
        assert not checkpoint_io.not_finite(state)


def idx(data: bytes, folder: Path) -> None:
    """A raw file of Fashion-MNIST, plain or compressed."""
    name = "t10k-labels-idx1-ubyte"
    suffix = ".gz" if data.startswith(b"\x1f") else ""
    (folder / f"{name}{suffix}").write_bytes(data)
    content = attempt(fashion_mnist.read_verified, folder, name)
    assert content is None or hashlib.sha256(content).hexdigest() == fashion_mnist.SHA256[name]
    attempt(fashion_mnist.load, folder, "test")


def runs(data: bytes, folder: Path) -> None:
    """The records of two runs."""
    _write_sections(data, folder)
    for found in find_runs(folder):
        (found.folder / "last.ckpt").touch()
        attempt(model_card.of, found.folder)
        _check_words(found.overrides)
        _ = found.status, found.metrics, found.score("val/acc"), found.settings
    comparison = attempt(compare, folder)
    if comparison is not None:
        _ = comparison.table().text(), comparison.to_csv(), comparison.notes()
        assert all(map(comparison.label, comparison.runs))


def sweep(data: bytes, folder: Path) -> None:
    """The record of a sweep."""
    (folder / record.RECORD).write_bytes(data)
    attempt(sweep_folder.resumed, [f"sweep.resume={folder}"])
    words = attempt(record.read, folder)
    taken_over = words and attempt(record.taken_over, folder, words, ())
    _check_words([word for word in taken_over or [] if not record._SAFE.fullmatch(word)])


def config(data: bytes, folder: Path) -> None:
    """A user's configurations, with which Hydra itself then composes."""
    _write_sections(data, folder)
    own = attempt(_check_and_compose, folder)
    if own is None:
        return
    text = json.dumps([own[key] for key in ("callbacks", "job_logging", "hydra_logging")])
    factories = set(re.findall(r'"(?:_target_|class)": "([^"]*)"', text))
    assert all(name.startswith(("logging.", "fashion_vgg.")) for name in factories), factories
    assert "()" not in text
    assert not own["job"]["env_set"]
    assert not own["searchpath"]


def _check_and_compose(folder: Path) -> Any:
    targets.check_config_folders(["--config-path", str(folder)])
    try:
        with initialize_config_dir(str(folder), version_base=None):
            composed = compose("config", return_hydra_config=True)
            return OmegaConf.to_container(composed.hydra, resolve=False)
    except Exception:  # Hydra's own, on a file that is no configuration; `fashion-vgg` reports it
        return None


def words(data: bytes, folder: Path) -> None:
    """Words of the command line, as a JSON list."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    _check_words(overrides.safe_overrides(content))
    if isinstance(content, list):
        _check_argv([word for word in content if isinstance(word, str) and "\0" not in word])


def _check_argv(argv: list[str]) -> None:
    attempt(overrides.split_flags, argv)
    keys = list(dict.fromkeys(map(overrides.key_of, argv)))
    for key in keys:
        overrides.value_of(argv, key)
    for word in argv:
        assert overrides.value_of([f"key={overrides.quoted(word)}"], "key") == word
        overrides.with_quoted_path(word)
    for name in (names.job_name(argv, keys), names.job_name(argv, keys[1:]), names.run_name(argv) or "run"):
        assert name not in (".", "..")
        assert not {"/", "\0"} & {*name}
        assert len(name.encode()) <= 255


def _write_sections(data: bytes, folder: Path) -> None:
    _, *parts = SECTION.split(data)
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        path = folder / name.decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _check_words(listed: list[str]) -> None:
    """Hydra's own parser finds none of its own keys, and none that resumes, in what is read from a file."""
    for word in listed:
        assert isinstance(word, str)
        try:
            override = OverridesParser.create().parse_override(word)
        except Exception:  # noqa: S112 # Hydra reports it
            continue
        package = (override.package or "").rpartition("_global_.")[2]
        assert not re.match(r"(hydra|sweep|resume)\b", override.key_or_group), word
        assert not re.match(r"hydra\b", package), word


def _read_part_by_part(path: Path) -> Any:
    """The content by Python's zip reader, which verifies each part's checksum, rather than by torch's."""
    again = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(again, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
    again.seek(0)
    return torch.load(again, map_location="cpu", weights_only=True)


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in content["state_dict"].items() if isinstance(value, torch.Tensor)}


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (checkpoint, initial, safetensors, idx, runs, sweep, config, words)
}
