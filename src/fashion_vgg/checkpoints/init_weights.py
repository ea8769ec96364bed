"""Weights that a training begins from: torchvision's, or those of another run."""

import hashlib
import logging
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fashion_vgg.checkpoints import checkpoint_io, weights
from fashion_vgg.errors import UserError
from fashion_vgg.models.torchvision_weights import renamed, summed_over_colours

log = logging.getLogger(__name__)

_HEADS = ("head.", "classifier.")
"""What the names of a head begin with: ours, and torchvision's where the network has none of its layers."""
_PUBLISHED = re.compile(r"^vgg\d\d(?:_bn)?-([0-9a-f]{8})\.pth$")
"""The names that torchvision publishes under: they end in the beginning of the file's SHA-256."""


def begin_from(path: Path, net: nn.Module) -> None:
    """Give the network the weights of a file, or of a run's folder.

    Everything but the head must fit, the first layer by its sum over the colours too. Of the head the layers are taken
    up to the first that does not fit, such as the last one where the classes are others; it and those after it stay as
    they were drawn.

    Raises:
        UserError: the file is not there, is cut or altered, holds more than data, or is of another network.
    """
    wanted = net.state_dict()
    # Torchvision's files are of before batch norm counted its batches, which matters only without a momentum.
    counters = {name: count for name, count in wanted.items() if name.endswith(".num_batches_tracked")}
    state = counters | _under_our_names(_read(path), net)
    weights.check_fit(_without_head(state), _without_head(wanted))
    head = [name for name in wanted if name.startswith(_HEADS)]
    fits = takewhile(lambda name: name in state and state[name].shape == wanted[name].shape, head)
    taken = _without_head(state) | {name: state[name] for name in fits}
    net.load_state_dict(taken, strict=False)
    drawn = sorted({name.rpartition(".")[0] for name in wanted.keys() - taken.keys()})
    log.info("Begins from the weights of %s%s", path, f"; drawn anew: {', '.join(drawn)}" if drawn else "")


def _read(path: Path) -> Mapping[str, Tensor]:
    path = weights.file_of(path)
    if not path.is_file():
        raise UserError(
            f"model.weights={path}: there is no such file. "
            "Where torchvision's are to be had, torchvision.models.VGG11_Weights.DEFAULT.url and the like say."
        )
    if path.suffix not in (".pt", ".pth"):
        return weights.load(path)
    state: Any = checkpoint_io.read(path, old_format=True)
    published = _PUBLISHED.search(path.name)
    if published and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(published[1]):
        raise UserError(f"{path} is cut or altered: its SHA-256 does not begin with {published[1]}, as its name says.")
    if not (isinstance(state, Mapping) and state and all(map(_is_named_tensor, state.items()))):
        raise UserError(f"{path} holds no weights: a state_dict, names and tensors, is expected.")
    if name := checkpoint_io.not_finite(state):
        raise UserError(f"{path} is of a training that diverged: {name} is not finite.")
    return state


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _under_our_names(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    if not any(name.startswith("features.") for name in state):
        return summed_over_colours(state, net)
    try:
        return renamed(state, net)
    except ValueError as error:
        raise UserError(str(error)) from error


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(_HEADS)}
