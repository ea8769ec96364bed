"""Weights to pass on: one `safetensors` file that describes its network and contains its own SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fashion_vgg import atomic
from fashion_vgg.errors import UserError, printable

Card = dict[str, Any]
"""The description of a network, as JSON; see `fashion_vgg.inference.model_card`."""

_KEY = "model_card"  # one key, since safetensors writes several in random order


def write(path: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write weights and their description atomically; ``sha256`` is added to the description."""
    state = {name: value.contiguous() for name, value in state.items()}
    content = json.dumps({**card, "sha256": _sha256(state, card)})
    atomic.write(path, safetensors.torch.save(state, {_KEY: content}))


def read(path: Path) -> tuple[dict[str, Tensor], Card]:
    """The weights and their description.

    Raises:
        UserError: the file cannot be read, was not written by `write`, or is truncated or altered.
    """
    card = read_card(path)
    try:
        state = safetensors.torch.load(path.read_bytes())
    except Exception as error:  # a KeyError of a type that torch lacks, a TypeError of a size
        raise _altered(path, error) from error
    if _sha256(state, card) != card.get("sha256"):
        raise UserError(f"{path} is truncated or altered: its SHA-256 is not the one in its metadata.")
    return state, card


def read_card(path: Path) -> Card:
    """The description alone, not verified; errors as in `read`."""
    if path.exists() and not path.is_file():  # opening a FIFO would wait for its writer
        raise UserError(f"{path} is not a regular file.")
    try:
        with safetensors.safe_open(path, "np") as file:
            card = json.loads((file.metadata() or {})[_KEY])
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise _altered(path, error) from error
    except KeyError:
        raise UserError(f"{path} has no description of its network: use a file of `fashion-vgg export`.") from None
    if not isinstance(card, dict):
        raise UserError(f"{path} is truncated or altered: its description is no mapping.")
    return card


def _altered(path: Path, error: Exception) -> UserError:
    return UserError(printable(f"{path} is truncated or altered ({str(error)[:200]})."))


def _sha256(state: Mapping[str, Tensor], card: Card) -> str:
    """The checksum of the weights and of their description without its own entry ``sha256``."""
    others = {key: value for key, value in card.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(others, sort_keys=True).encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
