"""``fashion-vgg test``: loss and accuracy of a run's, a checkpoint's or a published file's weights on the test set."""

from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from fashion_vgg.checkpoints import resume
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors

expand = partial(resume.with_recorded_overrides, key="weights")
"""Add the overrides that the run of ``weights=`` recorded to the command line."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="test")
@reported_errors("test")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    from hydra.utils import instantiate

    from fashion_vgg.checkpoints import weights
    from fashion_vgg.training import build

    resume.keep_precision(cfg, cfg.weights)
    build.check_components(cfg)
    build.configure_lightning_logging()
    path = weights.weights_file(Path(cfg.weights))
    classifier: Any = build.build_classifier(cfg)
    classifier.net.load_state_dict(weights.matching(weights.load(path), classifier.net))
    trainer = instantiate(cfg.trainer, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(classifier, instantiate(cfg.data), verbose=False)
    metrics = trainer.callback_metrics
    if trainer.is_global_zero:
        print(f"test loss {metrics['test/loss']:.4f}, test acc {metrics['test/acc']:.4f}: {path}")
