"""Prints the accuracy of trained networks, and their accuracy with the logits of each image and its mirror image added.

On the validation split of the runs, or on the test set if they have none; of one run, or the mean and the standard
deviation of several.

python scripts/flips.py <run's folder> ...
"""

import sys
from pathlib import Path
from statistics import mean, stdev

from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchmetrics.functional.classification import multiclass_accuracy

import fashion_vgg
from fashion_vgg.runs.table import Table


def accuracies(run: Path) -> tuple[float, float]:
    """Of the network, and of the sums of its logits."""
    network = fashion_vgg.load(run)
    datamodule = instantiate(OmegaConf.load(run / "config.yaml").data)
    datamodule.setup("fit")
    images, labels = (datamodule.val_set if datamodule.val_size else datamodule.test_set).tensors
    logits = network.logits(images)
    both = logits + network.logits(images.flip(-1))
    plain, flipped = (multiclass_accuracy(each, labels, 10, average="micro").item() for each in (logits, both))
    return plain, flipped


def main() -> None:
    """Print a row for each kind of evaluation."""
    columns = zip(*(accuracies(Path(name)) for name in sys.argv[1:]), strict=True)
    rows = [
        [name, f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")]
        for name, values in zip(("the images", "the images and their mirror images"), columns, strict=True)
    ]
    print(Table(["logits of", "accuracy"], rows).markdown())


if __name__ == "__main__":
    main()
