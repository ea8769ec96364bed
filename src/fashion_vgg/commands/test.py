"""``fashion-vgg test``: loss and accuracy of a trained network on the test set, as its training recorded them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from fashion_vgg.checkpoints import resume
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.inference import sources
from fashion_vgg.runs.table import Table

if TYPE_CHECKING:
    from fashion_vgg.training import ClassMetrics

expand = sources.expand

METRICS = ("test/loss", "test/acc")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="test")
@reported_errors("test")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    from hydra.utils import instantiate

    from fashion_vgg.checkpoints import weights
    from fashion_vgg.inference import model_card
    from fashion_vgg.training import ClassMetrics, build

    resume.keep_precision(cfg, cfg.weights)
    build.check_components(cfg)
    build.configure_lightning_logging()
    path = weights.weights_file(Path(cfg.weights))
    classifier: Any = build.build_classifier(cfg)
    classifier.net.load_state_dict(weights.matching(weights.load(path), classifier.net))
    by_class = ClassMetrics()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = instantiate(cfg.trainer, callbacks=[by_class], **quiet)
    trainer.test(classifier, instantiate(cfg.data), verbose=False)
    if trainer.is_global_zero:
        card = model_card.of(path, cfg)
        measured = {name: float(trainer.callback_metrics[name]) for name in METRICS}
        print(f"{shown(measured)}: {sources.shown(path)}")
        if recorded := {name: card["metrics"][name] for name in METRICS if name in card["metrics"]}:
            print("Equal to the recorded values." if recorded == measured else f"Recorded: {shown(recorded)}.")
        if cfg.per_class:
            print(f"\n{class_table(by_class, card['classes']).text()}")


def shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('/', ' ')} {value:.4f}" for name, value in metrics.items())


def class_table(by_class: "ClassMetrics", classes: Sequence[str]) -> Table:
    rows = [
        [name, f"{images:,.0f}", f"{loss / images:.4f}", f"{correct / images:.4f}"]
        for name, images, loss, correct in zip(classes, by_class.images, by_class.loss, by_class.correct, strict=True)
    ]
    return Table(["class", "images", "test loss", "test acc"], rows)
