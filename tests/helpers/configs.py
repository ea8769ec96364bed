"""Configurations composed without the command line."""

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion_vgg.config.app import CONF
from fashion_vgg.models import VGG


def composed(config_name: str, *overrides: str) -> DictConfig:
    """``conf/<config_name>.yaml`` with overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config_name, list(overrides))


def member(name: str, *overrides: str) -> VGG:
    """The network that the configs build for torchvision's name of it, such as ``vgg11_bn``."""
    norm = f"model.batch_norm={str(name.endswith('_bn')).lower()}"
    cfg = composed("describe", f"model={name.removesuffix('_bn')}", norm, *overrides)
    net = instantiate(cfg.model)
    assert isinstance(net, VGG)
    return net
