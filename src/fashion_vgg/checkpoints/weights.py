"""A network's weights alone: taken from a checkpoint, published as `safetensors`, held against a network."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fashion_vgg import atomic
from fashion_vgg.checkpoints import checkpoint_io
from fashion_vgg.errors import UserError

State = dict[str, Tensor]

_OF_CLASSIFIER = "net."
_COMPILED = "_orig_mod."  # what a network wrapped by torch.compile puts before its keys


def load(path: Path) -> State:
    """The network's weights in a checkpoint, or in a `publish`-ed file, whose checksum beside it is verified.

    Raises:
        UserError: the file is not there, is cut or altered, or holds no weights of a network.
    """
    if path.suffix == ".safetensors":
        return _published(path)
    state = checkpoint_io.load(path)["state_dict"]
    return {name.removeprefix(_OF_CLASSIFIER): value for name, value in state.items() if isinstance(value, Tensor)}


def file_of(path: Path) -> Path:
    """The file itself, or of a run's folder the best checkpoint, or else the last.

    Raises:
        UserError: the folder has none.
    """
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / name).exists():
            return path / name
    raise UserError(f"{path} has no checkpoint.")


def publish(state: Mapping[str, Tensor], path: Path) -> Path:
    """Write weights as ``path`` and, in the form of ``sha256sum``, their SHA-256 beside it, whose path is returned."""
    import safetensors.torch  # here, since training does without

    content = safetensors.torch.save({name: value.contiguous() for name, value in state.items()})
    atomic.write(path, content)
    beside = _checksum(path)
    atomic.write(beside, f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    return beside


def fitting(state: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """A state under the module's own names, those of a compiled network too.

    Raises:
        UserError: a tensor is missing, left over, or of another shape.
    """
    state = {name.replace(_COMPILED, ""): value for name, value in state.items()}
    check_fit(state, module.state_dict())
    return state


def check_fit(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """Hold the names and shapes of a state against those that are wanted.

    Raises:
        UserError: a tensor is missing, left over, or of another shape.
    """
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    if other:
        shapes = (list(state[other[0]].shape), list(wanted[other[0]].shape))
        what = f"{other[0]} is {shapes[0]} there and {shapes[1]} in the network"
    elif missing or extra:
        what = f"{(missing or extra)[0]} is {'missing' if missing else 'left over'}"
        further = len(missing) + len(extra) - 1
        what += f", and {further} more do not match" if further else ""
    else:
        return
    raise UserError(f"The weights are of another network: {what}.\nChoose the model they were trained with.")


def _published(path: Path) -> State:
    import safetensors.torch

    try:
        content, beside = path.read_bytes(), _checksum(path).read_text()
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): the two files go together.") from error
    if hashlib.sha256(content).hexdigest() != beside.partition(" ")[0]:
        raise UserError(f"{path} is cut or altered: its SHA-256 is not the one in {_checksum(path).name}.")
    try:
        state = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} holds no weights ({error}).") from error
    if name := checkpoint_io.not_finite(state):
        raise UserError(f"{path} is of a training that diverged: {name} is not finite.")
    return state


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
