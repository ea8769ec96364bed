"""The description of a trained network: what it takes to build it again, to feed it, and to trust it."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from fashion_vgg.checkpoints import published, run_folder
from fashion_vgg.checkpoints.published import Card
from fashion_vgg.checkpoints.records import recorded_config
from fashion_vgg.checkpoints.run_folder import CONFIG
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.checkpoints.weights import weights_file
from fashion_vgg.data.fashion_mnist import CLASS_NAMES
from fashion_vgg.errors import UserError, printable
from fashion_vgg.runs.run import Run

MAX_CLASSES = 100_000
"""A description lists them."""
PREPROCESSING = ("image_size", "channels", "mean", "std")

KEYS: dict[str, type | tuple[type, ...]] = {
    "network": dict,  # the config of the model
    "preprocessing": dict,  # the arguments of `Preprocess`
    "classes": list,
    "precision": str,  # of the training's evaluation
    "batch_size": int,
    "split": dict,  # the images held out for validation
    "command": str,  # of the training
    "commit": (str, NoneType),
    "finished": bool,
    "metrics": dict,  # of the weights in the file, if the run is finished
}
"""What a description contains, and the types of the values."""


def of(path: Path) -> Card:
    """The description of the network in a run's folder, in a checkpoint there, or in an exported file: see `KEYS`.

    Raises:
        UserError: the file has no complete description, or the folder no recorded configuration.
    """
    file = weights_file(path)
    if file.suffix == ".safetensors":
        return _checked(published.read_card(file), file)
    folder = run_folder.folder_of(path)  # of which checkpoint.folder may be independent
    if not (folder / CONFIG).exists():
        remedy = "use a run's folder, or a safetensors file of `fashion-vgg export`"
        raise UserError(f"{file}: no {CONFIG} beside it describes its network: {remedy}.")
    settings = recorded_config(folder)
    try:
        card = _described(settings)
    except KeyError as error:
        raise RecordError(folder / CONFIG, f"it has no {error}") from error
    except ValueError as error:
        raise RecordError(folder / CONFIG, str(error)) from error
    run = Run(folder)
    tested = run.metrics if run.summary and file == weights_file(folder) else {}
    if settings["trainer"].get("val_check_interval", 1.0) != 1.0:  # the last evaluation is some steps before the end
        tested = {name: tested[name] for name in tested if name.startswith("test/") and "val/acc" in tested}
    return card | {
        "command": shlex.join(["fashion-vgg", "train", *run.overrides]),
        "commit": run.summary.get("git_commit"),
        "finished": bool(run.summary),
        "metrics": {name: value for name, value in tested.items() if name.endswith(("/acc", "/loss"))},
    }


def _described(settings: Mapping[str, Any]) -> Card:
    """What the configuration of a training says about its network."""
    classes = settings["model"].get("num_classes", len(CLASS_NAMES))
    if type(classes) is not int or classes > MAX_CLASSES:
        raise ValueError("its model.num_classes is not valid")
    return {
        "network": settings["model"],
        "preprocessing": {key: settings["data"][key] for key in PREPROCESSING},
        "classes": list(CLASS_NAMES) if classes == len(CLASS_NAMES) else [str(label) for label in range(classes)],
        "precision": settings["trainer"]["precision"],
        "batch_size": settings["batch_size"],
        "split": {"val_size": settings["data"]["val_size"], "split_seed": settings["data"]["split_seed"]},
    }


def origin(card: Card) -> str:
    """A line about weights with their description, to which the path ``weights`` was added."""
    accuracy = card["metrics"].get("test/acc")
    quality = f", test accuracy {accuracy:.3f}" if accuracy is not None else ""
    line = f"Weights: {card['weights']}{quality}, {card['command']}{'' if card['finished'] else ' (not finished)'}"
    return printable(line)


def _checked(card: Card, file: Path) -> Card:
    for key, kind in KEYS.items():
        if not isinstance(card.get(key), kind):
            raise UserError(f"{file}: the description of its network has no valid {key}. Export the weights again.")
    return card
