"""``fashion-vgg export``: write a run's weights as `safetensors`, with their SHA-256 beside them."""

from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig

from fashion_vgg.checkpoints import resume
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors

expand = partial(resume.with_recorded_overrides, key="weights")
"""Add the overrides that the run of ``weights=`` recorded to the command line."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="export")
@reported_errors("export")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    import torch
    from hydra.utils import instantiate

    from fashion_vgg.checkpoints import weights

    path = weights.weights_file(Path(cfg.weights))
    with torch.device("meta"):
        net = instantiate(cfg.model)
    output = Path(cfg.to) if cfg.to else path.with_name("weights.safetensors")
    checksum = weights.publish(weights.matching(weights.load(path), net), output)
    print(f"{output}\n{checksum}")
