"""``fashion-vgg test``: loss and accuracy of a trained network on the test set, as its training recorded them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.checkpoints import resume
from fashion_vgg.checkpoints.run_folder import CONFIG, folder_of
from fashion_vgg.config import launch, targets, validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.config.overrides import key_of, quoted, value_of
from fashion_vgg.errors import UserError
from fashion_vgg.inference import sources
from fashion_vgg.runs.table import Table

if TYPE_CHECKING:
    from fashion_vgg.checkpoints.published import Card
    from fashion_vgg.training import ClassMetrics

METRICS = ("test/loss", "test/acc")
FREE = ("weights", "per_class", "trainer", "batch_size", "data.root", "data.num_workers", "hydra")
"""The keys that overrides may set for an exported file, whose description sets the others."""


def expand(argv: Sequence[str]) -> list[str]:
    """Add the path of the weights, and the overrides that their run recorded."""
    path = sources.find(value_of(argv, "weights"))
    words = [*(word for word in argv if key_of(word) != "weights"), f"weights={quoted(str(path))}"]
    return words if path.suffix == ".safetensors" else resume.with_recorded_overrides(words, "weights")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="test")
@reported_errors("test")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    if cfg.trainer.limit_test_batches == 0:
        raise UserError("trainer.limit_test_batches=0 leaves nothing to test: add trainer.limit_test_batches=1.0.")
    from hydra.utils import instantiate

    from fashion_vgg.checkpoints import weights
    from fashion_vgg.inference import model_card
    from fashion_vgg.training import ClassMetrics, build

    source = Path(cfg.weights)
    path = weights.weights_file(source)
    described = path.suffix == ".safetensors" or (folder_of(source) / CONFIG).exists()
    card = model_card.of(source) if described else None
    if card and path.suffix == ".safetensors":
        use_description(cfg, card)
    resume.keep_precision(cfg, cfg.weights)
    build.check_components(cfg)
    build.configure_lightning_logging()
    launch.name_command("test")
    classifier: Any = build.build_classifier(cfg)
    classifier.net.load_state_dict(weights.matching(weights.load(path), classifier.net))
    by_class = ClassMetrics()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = instantiate(cfg.trainer, callbacks=[by_class], **quiet)
    trainer.test(classifier, instantiate(cfg.data), verbose=False)
    if not trainer.is_global_zero:
        return
    measured = {name: float(trainer.callback_metrics[name]) for name in METRICS}
    print(f"{shown(measured)}: {sources.shown(path)}")
    if recorded := {name: card["metrics"][name] for name in METRICS if card and name in card["metrics"]}:
        print("Equal to the recorded values." if recorded == measured else f"Recorded: {shown(recorded)}.")
    if cfg.per_class:
        classes = card["classes"] if card else [str(label) for label in range(len(by_class.images))]
        print(f"\n{class_table(by_class, classes).text()}")


def use_description(cfg: DictConfig, card: "Card") -> None:
    """Set what the description of an exported file says about its network and its evaluation.

    Raises:
        UserError: an override sets what the description sets.
    """
    words = HydraConfig.get().overrides.task
    if refused := [word for word in words if not f"{key_of(word)}.".startswith(tuple(f"{key}." for key in FREE))]:
        raise UserError(f"{refused[0]} does not fit: the description in {cfg.weights} sets the network and its images.")
    given = {key_of(word) for word in words}
    described = {"model": card["network"], "trainer.precision": card["precision"], "batch_size": card["batch_size"]}
    described |= {f"data.{key}": value for key, value in card["preprocessing"].items()}
    for key, value in described.items():
        if key not in given:
            OmegaConf.update(cfg, key, value, merge=False)
    targets.check(cfg)


def shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('/', ' ')} {value:.4f}" for name, value in metrics.items())


def class_table(by_class: "ClassMetrics", classes: Sequence[str]) -> Table:
    rows = [
        [name, f"{images:,.0f}", f"{loss / images:.4f}", f"{correct / images:.4f}"]
        for name, images, loss, correct in zip(classes, by_class.images, by_class.loss, by_class.correct, strict=True)
    ]
    return Table(["class", "images", "test loss", "test acc"], rows)
