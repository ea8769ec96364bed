"""A trained network with its preprocessing and its class names."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import OmegaConf
from torch import Tensor, nn

from fashion_vgg.checkpoints import weights
from fashion_vgg.checkpoints.published import Card
from fashion_vgg.config import targets
from fashion_vgg.data.fashion_mnist import SIDE
from fashion_vgg.data.transforms import Preprocess
from fashion_vgg.errors import UserError
from fashion_vgg.inference import model_card, pictures, sources
from fashion_vgg.inference.pictures import Background, Picture


class Prediction(NamedTuple):
    """The classes of one image, most probable first, and their probabilities, which sum to 1."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities."""
        return list(zip(self.classes, self.probabilities, strict=True))[:count]

    def __str__(self) -> str:
        return f"{self.classes[0]} ({self.probabilities[0]:.1%})"


class Predictor:
    """Classifies images with a trained network, in the precision and the batch size of its evaluation.

    On a CPU that emulates bfloat16, it is float32 instead.

    Args:
        net: the network.
        card: its description; see `model_card.KEYS`.

    Attributes:
        net: the network, in evaluation mode.
        preprocess: converts uint8 ``(N, 28, 28)`` to the network's input.
        classes: the class names in the order of the logits.
        card: the description of the network.

    Raises:
        UserError: the network has another number of classes than its description.
    """

    def __init__(self, net: nn.Module, card: Card) -> None:
        self.card = card
        precision = card["precision"]
        if _is_emulated(precision):
            net, precision = net.float(), "32-true"
        self.net = net.eval()
        self.preprocess = Preprocess(**card["preprocessing"])
        self.classes: Sequence[str] = card["classes"]
        # One process, also in a task of SLURM or torchrun.
        self._fabric = Fabric(devices=1, precision=precision, plugins=[LightningEnvironment()])
        self._forward = self._fabric.setup_module(net)
        self._check_classes()

    def predict(self, images: Picture | Iterable[Picture], background: Background = "auto") -> list[Prediction]:
        """Classify pictures of single articles of clothing.

        Args:
            images: one picture or several; see `pictures.read`.
            background: of the pictures, ``dark`` or ``light``; ``auto`` finds it from their borders.

        Raises:
            UserError: an image cannot be read.
        """
        read = (pictures.read(image, background) for image in pictures.separate(images))
        return [prediction for batch in self.batches(read) for prediction in self.rank(self.probabilities(batch))]

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The logits, float ``(N, classes)``, of uint8 images ``(N, 28, 28)`` in the data set's format."""
        parts: Any = torch.split(self._fabric.to_device(images), self.batch_size)
        return torch.cat([self._forward(self.preprocess(part)) for part in parts]).cpu()

    def probabilities(self, images: Tensor) -> Tensor:
        """The probabilities of the classes, ``(N, classes)``; see `logits`."""
        return self.logits(images).softmax(dim=1)

    def rank(self, probabilities: Tensor) -> list[Prediction]:
        """Sort the classes of each image by their probability."""
        values, labels = probabilities.sort(dim=1, descending=True, stable=True)
        names = [tuple(self.classes[label] for label in row) for row in labels.tolist()]
        return [Prediction(*pair) for pair in zip(names, map(tuple, values.tolist()), strict=True)]

    def batches(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """Stack images, uint8 ``(28, 28)``, to batches of the size with which the network was evaluated."""
        remaining = iter(images)
        while batch := list(islice(remaining, self.batch_size)):
            yield torch.stack(batch)

    def _check_classes(self) -> None:
        logits = self.logits(torch.zeros(1, SIDE, SIDE, dtype=torch.uint8))
        if logits.shape != (1, len(self.classes)):
            raise UserError(f"The network has {logits.shape[-1]} classes, its description names {len(self.classes)}.")

    @property
    def batch_size(self) -> int:
        """The batch size of the training's evaluation: another one may round differently."""
        return int(self.card["batch_size"])

    @property
    def origin(self) -> str:
        """A line about the weights: where they are from, how good they are, and the command of their training."""
        return model_card.origin(self.card)

    def __repr__(self) -> str:
        return f"<Predictor, {self.origin}>"


def _is_emulated(name: str) -> bool:
    if not name.startswith("bf16"):
        return False
    from fashion_vgg.training import precision  # imports Lightning's Trainer

    return precision.is_emulated(name, "auto")


def load(weights_name: str | Path | None = None) -> Predictor:
    """Load a trained network.

    Args:
        weights_name: a run's folder, a checkpoint in one, a file of ``fashion-vgg export``, or a name; see
            `sources.find`. By default the newest finished run, or else the weights of ``experiment=speedrun`` that are
            part of the package.

    Raises:
        UserError: there are no such weights, they are damaged, or they do not fit their description.
    """
    return Predictor(*load_network(sources.find(None if weights_name is None else str(weights_name))))


def load_network(source: Path) -> tuple[nn.Module, Card]:
    """The network of a run, a checkpoint or an exported file, in the dtype of its weights, and its description."""
    path = weights.weights_file(source)
    card = model_card.of(source) | {"weights": sources.shown(path)}
    net, state = build(card), weights.load(path)
    net.load_state_dict(weights.matching(state, net))
    net.to(next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32))
    return net.eval(), card


def build(card: Card) -> nn.Module:
    """The network that a description names, with random weights.

    Raises:
        UserError: it names a class that is not allowed, or arguments that the class rejects.
    """
    cfg: Any = OmegaConf.create({"network": card["network"]})
    targets.check(cfg, ("fashion_vgg.models",))
    net = instantiate(cfg.network)
    if not isinstance(net, nn.Module):
        raise UserError("The description of the weights names no network: export them again.")
    return net
