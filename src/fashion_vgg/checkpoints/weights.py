"""A network's weights: read from a run or a file, and loaded as initial weights."""

import hashlib
import logging
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fashion_vgg.checkpoints import checkpoint_io, published
from fashion_vgg.checkpoints.records import recorded_config
from fashion_vgg.checkpoints.resume import resume_command
from fashion_vgg.checkpoints.run_folder import CONFIG
from fashion_vgg.errors import UserError
from fashion_vgg.models import torchvision_weights

log = logging.getLogger(__name__)

State = dict[str, Tensor]

_CLASSIFIER_PREFIX = "net."
_COMPILED_PREFIX = "_orig_mod."  # of a network wrapped by torch.compile
_HEAD_PREFIXES = ("head.", "classifier.")
"""Of the head's tensors, in our names and in torchvision's."""
_TORCHVISION_FILE = re.compile(r"^vgg\d\d(?:_bn)?-([0-9a-f]{8})\.pth$")
"""Torchvision's file names end in the first digits of the file's SHA-256."""


def weights_file(path: Path) -> Path:
    """The file that a path names: itself, or a run's best checkpoint, or else its last one."""
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / name).exists():
            return path / name
    if (path / CONFIG).exists():
        settings = recorded_config(path)
        elsewhere = Path(str(settings["checkpoint"]["folder"]), "last.ckpt")
        if str(elsewhere.parent) != settings.get("output_dir") and elsewhere.exists():  # not of a copied folder
            return elsewhere
    raise UserError(f"{path} has no checkpoint. If it is an interrupted run, resume it: {resume_command(path)}")


def load(path: Path) -> State:
    """The network's weights in a checkpoint, or in a `published` file, whose checksum is verified."""
    if path.suffix == ".safetensors":
        state, _ = published.read(path)
        checkpoint_io.check_finite(state, path)
        return state
    state = checkpoint_io.load(path)["state_dict"]
    return {name.removeprefix(_CLASSIFIER_PREFIX): value for name, value in state.items()}


def matching(state: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """A state without torch.compile's prefix; raise UserError unless it matches the module's names and shapes."""
    state = {name.replace(_COMPILED_PREFIX, ""): value for name, value in state.items()}
    _check_match(state, module.state_dict())
    return state


def initialize(net: nn.Module, path: Path) -> None:
    """Load weights of torchvision, or of another run, as initial weights.

    Everything but the head must match; the first layer may differ in its input channels, which are summed for grey
    images. Of the head, the layers before the first that does not match are loaded, such as all but the last one if
    the number of classes differs; the others keep their random initialization.

    Raises:
        UserError: the file is missing, truncated or altered, holds more than data, or is another network's.
    """
    wanted = net.state_dict()
    # Torchvision's files are older than batch norm's counters, which matter only without a momentum.
    counters = {name: count for name, count in wanted.items() if name.endswith(".num_batches_tracked")}
    state = counters | _in_our_names(_load_initial(path), net)
    _check_match(_without_head(state), _without_head(wanted))
    head = [name for name in wanted if name.startswith(_HEAD_PREFIXES)]
    fits = takewhile(lambda name: name in state and state[name].shape == wanted[name].shape, head)
    loaded = _without_head(state) | {name: state[name] for name in fits}
    net.load_state_dict(loaded, strict=False)
    random = sorted({name.rpartition(".")[0] for name in wanted.keys() - loaded.keys()})
    log.info("Initial weights from %s%s", path, f"; initialized at random: {', '.join(random)}" if random else "")


def _check_match(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = [name for name in wanted if name in state and _kind(wanted[name]) != _kind(state[name])]
    if other:
        what = f"{other[0]} is {_kind(state[other[0]])} in the file and {_kind(wanted[other[0]])} in the network"
    elif missing or extra:
        what = f"{(missing or extra)[0]} is {'missing' if missing else 'unexpected'}"
        further = len(missing) + len(extra) - 1
        what += f", and {further} more do not match" if further else ""
    else:
        return
    raise UserError(f"The weights are another network's: {what}.\nChoose the model that they were trained with.")


def _kind(tensor: Tensor) -> str:
    """Its shape, and its type unless that is one of real floating-point numbers, which torch converts."""
    return f"{list(tensor.shape)}{'' if tensor.is_floating_point() else f' of {tensor.dtype}'}"


def _load_initial(path: Path) -> Mapping[str, Tensor]:
    path = weights_file(path)
    if not path.is_file():
        raise UserError(
            f"init_weights={path}: no such file. "
            "torchvision.models.VGG11_Weights.DEFAULT.url and its siblings name torchvision's files."
        )
    if path.suffix not in (".pt", ".pth"):
        return load(path)
    state: Any = checkpoint_io.read(path, legacy_format=True)
    name = _TORCHVISION_FILE.search(path.name)
    if name and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(name[1]):
        raise UserError(f"{path} is truncated or altered: its SHA-256 does not begin with {name[1]}, as its name says.")
    if not (isinstance(state, Mapping) and state and all(map(checkpoint_io.is_named_tensor, state.items()))):
        raise UserError(f"{path} holds no weights: a state_dict of names and tensors is expected.")
    checkpoint_io.check_finite(state, path)
    return state


def _in_our_names(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    if not any(name.startswith("features.") for name in state):
        return torchvision_weights.sum_input_channels(state, net)
    try:
        return torchvision_weights.from_torchvision(state, net)
    except ValueError as error:
        raise UserError(str(error)) from error


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(_HEAD_PREFIXES)}
