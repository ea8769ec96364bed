"""PeriodicCheckpoint on the disk: written whole or not at all, and read as data that is checked and never executed."""

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
from fashion_vgg.errors import TrainingError, UserError


class CheckedCheckpointIO(CheckpointIO):
    """Lightning's own writes without syncing and reads what may be altered, or hold code; this one does not.

    It knows only local files.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it whole or not at all.

        Raises:
            TrainingError: a weight is NaN or infinite; the file that was there stays.
            OSError: it could not be written; the file that was there stays.
        """
        path = Path(path)
        if name := not_finite(checkpoint["state_dict"]):
            kept = f"; {path} is of before" if path.exists() else ""
            raise TrainingError(f"{name} is not finite after step {checkpoint['global_step']}{kept}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.writing(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # of the end of the archive, which hides that the disk is full
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See `load`; the other arguments are Lightning's, and change nothing."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete it if it is there."""
        Path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content on the CPU: tensors and plain data.

    The checksum of every part is verified first: torch reads most altered files without a word. ``weights_only`` is
    given, since without it an environment variable makes torch execute what a file says.

    Raises:
        UserError: it is no local file, is cut or altered, holds more than data, or a weight that is NaN or infinite.
    """
    content = read(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise UserError(f"{path} is no checkpoint of a training: it has no state_dict.")
    if name := not_finite(content["state_dict"]):
        raise UserError(f"{path} is of a training that diverged: {name} is not finite.")
    return content


def read(path: Path, old_format: bool = False) -> Any:
    """What `torch.save` wrote, on the CPU, as `load` reads it.

    Args:
        path: the file.
        old_format: whether it may be of before torch 1.6, as files of torchvision's are, which has no checksums.

    Raises:
        UserError: it is no local file, is cut or altered, or holds more than data.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file. A checkpoint is a file on this machine.")
    try:
        if zipfile.is_zipfile(path) or not old_format:
            _verify(path)
        with warnings.catch_warnings(action="ignore"):  # torch's, of a pickle that it did not write: the error follows
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than data, and might be made to run code: it was not loaded.") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # an altered file ends the reader in any of a dozen ways
        raise UserError(f"{path} is cut or altered: it was not loaded.") from error


def not_finite(state: Mapping[str, Any]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, if one does."""
    tensors = ((name, value) for name, value in state.items() if isinstance(value, Tensor))
    return next((name for name, value in tensors if not torch.isfinite(value).all()), None)


def _verify(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
