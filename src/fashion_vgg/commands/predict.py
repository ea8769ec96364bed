"""``fashion-vgg predict``: the classes of pictures, as a table, CSV or JSON lines."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.config.overrides import FLAGS_WITH_VALUE, quoted
from fashion_vgg.errors import UserError
from fashion_vgg.inference import sources
from fashion_vgg.runs.table import Table, csv_cell

# torch is imported late, as in `train`.
if TYPE_CHECKING:
    from torch import Tensor

    from fashion_vgg.inference.predictor import Prediction, Predictor

Row = list[str | float]


def expand(argv: Sequence[str]) -> list[str]:
    """Collect the pictures: words without a key, and ``images=``, whose value may need quotes in Hydra's grammar."""
    pictures, others = list[str](), list[str]()
    for word, before in zip(argv, ["", *argv], strict=False):
        # With os.path: pathlib raises for a list that is too long for a file's name.
        bare = word == "-" or os.path.isfile(word) or (word[:1] != "-" and "=" not in word)  # noqa: PTH113
        bare = bare and before not in FLAGS_WITH_VALUE
        (pictures if bare or word.startswith("images=") else others).append(word.removeprefix("images="))
    is_value = [word[:1] in ("[", "'", '"') and not os.path.exists(word) for word in pictures]  # noqa: PTH110
    words = [word if is_hydras else quoted(word) for word, is_hydras in zip(pictures, is_value, strict=True)]
    return [*others, f"images={words[0] if len(words) == 1 else '[' + ','.join(words) + ']'}"] if words else others


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="predict")
@reported_errors("predict")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    if OmegaConf.is_missing(cfg, "images"):
        raise UserError("Name a picture, a folder or a pattern: fashion-vgg predict shoe.jpg")
    weights = sources.find(cfg.weights)
    from fashion_vgg.inference import pictures, predictor
    from fashion_vgg.training import build

    build.configure_lightning_logging()
    files = pictures.find(cfg.images if OmegaConf.is_list(cfg.images) else [cfg.images])
    network = predictor.load(weights)
    print(network.origin, file=sys.stderr)
    failed: list[str] = []
    write = {"table": write_table, "csv": write_csv, "json": write_json}[cfg.format]
    write(predictions(network, files, cfg, failed), min(cfg.top, len(network.classes)))
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} pictures could not be classified.")


def predictions(
    network: "Predictor", files: Sequence[str], cfg: DictConfig, failed: list[str]
) -> "Iterator[tuple[str, Prediction]]":
    """Classify files batch by batch; report those that cannot be read, and add them to ``failed``."""
    from tqdm import tqdm

    from fashion_vgg.inference import pictures

    names: list[str] = []

    def read() -> "Iterator[Tensor]":
        for name in tqdm(files, unit=" pictures", disable=None if len(files) > network.batch_size else True):
            try:
                image = pictures.read(sys.stdin.buffer.read() if name == "-" else name, cfg.background)
            except UserError as error:
                tqdm.write(str(error), file=sys.stderr)
                failed.append(name)
            else:
                names.append(name)
                yield image

    for batch in network.batches(read()):
        yield from zip(names, network.rank(network.probabilities(batch)), strict=True)
        names.clear()


def header(top: int) -> list[str]:
    """The columns of a table with the ``top`` most probable classes."""
    return ["image", *(f"{name}{f' {place}' * (place > 1)}" for place in range(1, top + 1) for name in _COLUMNS)]


_COLUMNS = ("class", "probability")


def rows(predicted: "Iterable[tuple[str, Prediction]]", top: int) -> Iterator[Row]:
    for name, prediction in predicted:
        yield [name, *(cell for pair in prediction.top(top) for cell in pair)]


def write_table(predicted: "Iterable[tuple[str, Prediction]]", top: int) -> None:
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows(predicted, top)]
    if cells:  # the image last: a table never truncates its last column
        (image, *names), table = header(top), [[*row[1:], row[0]] for row in cells]
        print(Table([*names, image], table).text())


def write_csv(predicted: "Iterable[tuple[str, Prediction]]", top: int) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header(top))
    writer.writerows([*map(csv_cell, row)] for row in rows(predicted, top))


def write_json(predicted: "Iterable[tuple[str, Prediction]]", top: int) -> None:
    for name, prediction in predicted:
        print(json.dumps({"image": name, "classes": dict(prediction.top(top))}))
