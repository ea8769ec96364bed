"""Checkpoint files: written atomically, read as data that is verified and never executed."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import CheckpointIO
from torch import Tensor

from fashion_vgg import atomic
from fashion_vgg.errors import DivergedError, UserError


class CheckedCheckpointIO(CheckpointIO):
    """Lightning's plugin for reading and writing checkpoints, for local files.

    Unlike Lightning's default it syncs what it writes, verifies what it reads, and loads no code.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint atomically: if this fails, or a weight is NaN or infinite, the previous file stays."""
        path = Path(path)
        if name := not_finite(checkpoint["state_dict"]):
            previous = f"; {path} is unchanged" if path.exists() else ""
            raise DivergedError(f"{name} is not finite after step {checkpoint['global_step']}{previous}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.writing(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's error about the archive hides that the disk is full
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """`load`; Lightning's other arguments are ignored."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """`read` a training's checkpoint; raise UserError if it is none, or if a weight is NaN or infinite."""
    content = read(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise UserError(f"{path} is not a training's checkpoint: it has no state_dict.")
    # A module of the user may have extra state of any type.
    parts = [item for item in content["state_dict"].items() if not str(item[0]).endswith("_extra_state")]
    if other := next((item[0] for item in parts if not is_named_tensor(item)), None):
        raise UserError(f"{path} is not a training's checkpoint: {other} in its state_dict is no tensor.")
    check_finite(content["state_dict"], path)
    return content


def read(path: Path, legacy_format: bool = False) -> Any:
    """The content of a file of `torch.save`, on the CPU.

    The checksum of each part is verified first, since torch reads most altered files without an error. ``weights_only``
    is passed explicitly, since an environment variable can change its default.

    Args:
        path: the file.
        legacy_format: allow the format before torch 1.6, which has no checksums; torchvision publishes some in it.

    Raises:
        UserError: it is no local file, is truncated or altered, or holds more than data.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. A checkpoint is a file on this machine.")
    try:
        if b"\nbytearray\n" in _pickles(path, legacy_format):  # torch allows this call, of any amount of memory
            raise pickle.UnpicklingError
        with warnings.catch_warnings(action="ignore"):  # torch warns of foreign pickles; the error follows
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than data, which could run code: it was not loaded.") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # altered files raise a dozen types
        raise UserError(f"{path} is truncated or altered: it was not loaded.") from error


def is_named_tensor(item: tuple[Any, Any]) -> bool:
    """Whether an item of a state has a text as its key and a dense tensor as its value."""
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _pickles(path: Path, legacy_format: bool) -> bytes:
    """The pickles of an archive; BadZipFile if a part is altered, or was compressed, as no part of `torch.save` is."""
    if legacy_format and not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > path.stat().st_size or archive.testzip():
            raise zipfile.BadZipFile
        return b"".join(archive.read(part) for part in parts if part.filename.endswith(".pkl"))


def not_finite(state: Mapping[str, Any]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, if there is one."""
    tensors = ((name, value) for name, value in state.items() if isinstance(value, Tensor))
    return next((name for name, value in tensors if not torch.isfinite(value).all()), None)


def check_finite(state: Mapping[str, Any], path: Path) -> None:
    """Raise UserError if a file's weights are not named and dense, or if one is NaN or infinite."""
    if not all(isinstance(name, str) and name.isprintable() for name in state):
        raise UserError(f"{path} holds no weights: a name in its state_dict is not a text.")
    try:
        if any(value.nbytes > path.stat().st_size for value in state.values() if isinstance(value, Tensor)):
            raise UserError(f"{path} holds no weights: a tensor is larger than the file.")
        name = not_finite(state)
    except RuntimeError as error:  # sparse, quantized, packed, or without data
        raise UserError(f"{path} holds no weights: a tensor is not dense.") from error
    if name:
        raise UserError(f"{path}: {name} is not finite, since its training diverged.")
