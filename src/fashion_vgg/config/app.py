"""What Hydra needs before it composes: the folder of the configs, and the resolvers that they use."""

import hashlib
import os
import secrets
import warnings
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.config.overrides import key_of

# A wheel has the configs inside the package, a checkout at its top level.
_PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf") if folder.is_dir())

# Hydra 1.3 merges our hydra/launcher/joblib.yaml into the plugin's config of that name, as intended.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def _folder_name(overrides: str) -> str:
    """A job's overrides as a folder name, without slashes and within the file systems' limit of 255 bytes."""
    name = overrides.replace("/", "_")
    return name if len(name.encode()) <= 200 else f"{name[:150]}...{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _parallel_jobs() -> int:
    """One job per GPU, or without GPUs one per four CPU cores, at least two."""
    import torch

    return torch.cuda.device_count() or max(2, (os.cpu_count() or 1) // 4)


# ${token:} keeps apart the folders of runs that start in the same second.
OmegaConf.register_new_resolver("token", lambda: secrets.token_hex(4), use_cache=True, replace=True)
OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
OmegaConf.register_new_resolver("parallel_jobs", _parallel_jobs, use_cache=True, replace=True)


def in_sweep() -> bool:
    """Whether the current job is part of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def groups() -> list[str]:
    """The names of the config groups."""
    return [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"]


def default_config(config_name: str, overrides: list[str]) -> DictConfig:
    """A command's configuration with the groups that the overrides choose, but without the values that they set."""
    choices = [word for word in overrides if key_of(word) in groups() and "," not in word]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return hydra.compose(config_name, choices)
        except HydraException:  # an option from the user's own config folder
            return hydra.compose(config_name)
