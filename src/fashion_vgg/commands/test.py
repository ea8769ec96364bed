"""``fashion-vgg test``: loss and accuracy of a run's, a checkpoint's or a published file's weights on the test set."""

from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion_vgg.checkpoints import resume
from fashion_vgg.config.app import command
from fashion_vgg.training.build import build_classifier, check_components, configure_lightning_logging


@command("test", prepare=partial(resume.arguments, key="weights"))
def main(cfg: DictConfig) -> None:
    check_components(cfg)
    from fashion_vgg.checkpoints import weights

    configure_lightning_logging()
    path = weights.file_of(Path(cfg.weights))
    classifier: Any = build_classifier(cfg)
    classifier.net.load_state_dict(weights.fitting(weights.load(path), classifier.net))
    trainer = instantiate(cfg.trainer, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(classifier, instantiate(cfg.data), verbose=False)
    figures = trainer.callback_metrics
    if trainer.is_global_zero:
        print(f"test loss {figures['test/loss']:.4f}, test acc {figures['test/acc']:.4f}: {path}")


if __name__ == "__main__":
    main()
