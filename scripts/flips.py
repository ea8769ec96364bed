"""Prints the accuracy of trained networks, and their accuracy with the logits of each image and its mirror image added.

On the validation split of the runs, or on the test set if they have none; of one run, or the mean and the standard
deviation of several.

python scripts/flips.py <run's folder> ...
"""

import sys
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchmetrics.functional.classification import multiclass_accuracy

import fashion_vgg
from fashion_vgg.runs.comparison import mean_and_deviation
from fashion_vgg.runs.table import Table


def accuracies(run: Path) -> tuple[float, float]:
    """Of the network, and of the sums of its logits."""
    network = fashion_vgg.load(run)
    datamodule = instantiate(OmegaConf.load(run / "config.yaml").data)
    datamodule.setup("fit")
    images, labels = datamodule.val_dataloader().dataset.tensors
    logits = network.logits(images)
    both = logits + network.logits(images.flip(-1))
    classes = len(network.classes)
    plain, flipped = (multiclass_accuracy(each, labels, classes, average="micro").item() for each in (logits, both))
    return plain, flipped


def main() -> None:
    """Print a row for each kind of evaluation."""
    columns = zip(*(accuracies(Path(name)) for name in sys.argv[1:]), strict=True)
    names = "the images", "the images and their mirror images"
    rows = [[name, mean_and_deviation(values)] for name, values in zip(names, columns, strict=True)]
    print(Table(["logits of", "accuracy"], rows).markdown())


if __name__ == "__main__":
    main()
