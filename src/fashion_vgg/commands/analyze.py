"""``fashion-vgg analyze``: the errors, the calibration and the inside of a trained network, as plots and a page."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from fashion_vgg import atomic
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.errors import UserError, printable
from fashion_vgg.inference import sources

# torch is imported late, as in `train`.
if TYPE_CHECKING:
    from torch import Tensor

    from fashion_vgg.analysis.evaluation import Evaluation
    from fashion_vgg.analysis.page import Section
    from fashion_vgg.inference.predictor import Predictor


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="analyze")
@reported_errors("analyze")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    weights = sources.find(cfg.weights)
    from fashion_vgg.analysis import page, sections, values
    from fashion_vgg.analysis.evaluation import Evaluation
    from fashion_vgg.inference import predictor
    from fashion_vgg.training import build

    build.configure_lightning_logging()
    network = predictor.load(weights)
    images, labels = read_split(cfg, network)
    evaluation = Evaluation(images, labels, network.logits(images), network.classes)
    shown = [*sections.of_predictions(evaluation), *of_network(cfg, network, evaluation)]
    facts = describe(cfg, network, evaluation)
    folder = Path(cfg.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {section.name: section.png() for section in shown}
    for name, content in pictures.items():
        atomic.write(folder / f"{name}.png", content)
    origin = {key: network.card[key] for key in ("weights", "command", "commit")} | {"split": cfg.split}
    atomic.write(folder / "analysis.json", json.dumps(origin | values.to_dict(evaluation), indent=2) + "\n")
    atomic.write(folder / "analysis.html", page.render("Analysis of a trained network", facts, shown, pictures))
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"\n{folder / 'analysis.html'}")


def read_split(cfg: DictConfig, network: "Predictor") -> "tuple[Tensor, Tensor]":
    """Images, uint8 ``(N, 28, 28)``, and labels of the test set, or of the images that the training held out."""
    from fashion_vgg.data import download, fashion_mnist
    from fashion_vgg.data.loader import stratified_split

    if len(network.classes) != fashion_mnist.NUM_CLASSES:
        classes = f"{len(network.classes)} classes, Fashion-MNIST has {fashion_mnist.NUM_CLASSES}"
        raise UserError(f"{network.card['weights']}: the network has {classes}: analyze another one.")
    root, split = download.fetch(cfg.data.root), network.card["split"]
    if cfg.split == "test":
        return fashion_mnist.load(root, "test")
    if not split["val_size"]:
        raise UserError("split=val: the training held out no images (data.val_size=0): use split=test.")
    images, labels = fashion_mnist.load(root, "train")
    _, held_out = stratified_split(labels, split["val_size"], split["split_seed"])
    return images[held_out], labels[held_out]


def of_network(cfg: DictConfig, network: "Predictor", evaluation: "Evaluation") -> "list[Section]":
    """The likely label errors, and the inside of the network."""
    from fashion_vgg.analysis import sections

    mistakes = evaluation.mistakes()
    index = cfg.image if cfg.image is not None else int(mistakes[0]) if len(mistakes) else 0
    if index >= len(evaluation.images):
        raise UserError(f"image={index} does not fit: the set has {len(evaluation.images):,} images, counted from 0.")
    inputs = network.preprocess(evaluation.images[index : index + 1])
    return [
        *if_possible("likely label errors", lambda: sections.label_issues(evaluation)),
        *if_possible("filters", lambda: sections.of_filters(network.net)),
        *if_possible("feature maps", lambda: sections.feature_maps(network.net, evaluation, index, inputs)),
        *if_possible("Grad-CAM", lambda: sections.grad_cam(network.net, evaluation, index, inputs)),
    ]


def if_possible(what: str, make: "Callable[[], Section | None]") -> "list[Section]":
    """A section; none and a line that says why if its package is not installed, or if it does not fit the network."""
    try:
        return list(filter(None, [make()]))
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        print(f"{package} is not installed: pip install 'fashion-vgg[analyze]' adds {what}.", file=sys.stderr)
    except UserError as error:
        print(f"Without {what}: {error}", file=sys.stderr)
    return []


def describe(cfg: DictConfig, network: "Predictor", evaluation: "Evaluation") -> Mapping[str, str]:
    """What was analyzed, and the result in three numbers."""
    names = {"test": "test set", "val": "validation split"}
    command, commit = network.card["command"], network.card["commit"]
    return {
        "Weights": network.card["weights"],
        "Training": printable(f"{command} (commit {commit})" if commit else command),  # may be of a foreign file
        "Images": f"{len(evaluation.images):,} of the {names[cfg.split]}",
        "Accuracy": f"{evaluation.accuracy_of(1):.4f}",
        "Mean confidence": f"{float(evaluation.confidences.mean()):.4f}",
        "Expected calibration error": f"{evaluation.calibration_error():.4f}",
    }
