"""Checks the configuration before torch is imported, so that a mistake costs a line and about a second.

A value has the type of its default in ``conf/``. `DOMAINS` adds the ranges that torch and Lightning would not explain.
"""

from collections.abc import Mapping

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.config import monitors, targets
from fashion_vgg.config.app import CONF, default_config, groups
from fashion_vgg.config.domains import DOMAINS, FORMATS, NODE, TEXT, TYPES, Domain
from fashion_vgg.config.overrides import flatten, key_of, shown
from fashion_vgg.errors import UserError

_SHARED = {
    "batch_size": ("data.batch_size",),
    "in_channels": ("model.in_channels", "data.channels"),
    "image_size": ("model.image_size", "data.image_size"),
    "num_classes": ("model.num_classes",),
}
"""Keys whose value the groups share."""


def check(cfg: DictConfig) -> None:
    """Raise UserError at the first class that is not allowed, or the first value that does not fit its key."""
    targets.check(cfg)
    domains = {**DOMAINS, "format": FORMATS.get(_command(), TEXT)}
    check_values(cfg, {**_types_of_defaults(domains), **domains})
    if "classifier" in cfg:
        monitors.check(cfg)
    if cfg.get("resume") and "sweep" not in cfg:
        raise UserError(f"resume={cfg.resume} does not fit: only train resumes a run.")


def check_values(cfg: DictConfig, domains: Mapping[str, Domain] = DOMAINS) -> None:
    """Raise UserError at the first value that does not fit its key, or another key that has the same value."""
    for key, domain in domains.items():
        _check_value(cfg, key, domain)
    for key, sharing in _SHARED.items():
        for other in sharing if key in cfg else ():
            if (value := OmegaConf.select(cfg, other, default=cfg[key])) != cfg[key]:
                raise UserError(f"{other}={shown(value)} does not fit {key}={shown(cfg[key])}: set {key} alone.")


def _check_value(cfg: DictConfig, key: str, domain: Domain) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    required = parent in ("checkpoint", "classifier") and parent in cfg
    named = parent in DOMAINS and DOMAINS[parent].fits(node)  # such as a strategy
    if (node is not None or required) and not isinstance(node, DictConfig) and not named:
        raise UserError(f"{parent}={shown(node)} does not fit: it has keys of its own, such as {key}.")
    if isinstance(node, DictConfig) and name in node and not domain.fits(node[name]):
        raise UserError(f"{key}={shown(node[name])} does not fit: use {domain.values}.")


def _types_of_defaults(domains: Mapping[str, Domain]) -> dict[str, Domain]:
    """A domain for every key of the command's default configuration: the type of its default."""
    command = _command()
    if not (CONF / f"{command}.yaml").exists() or not _sets_other_keys(domains):
        return {}
    defaults = OmegaConf.to_container(default_config(command, list(HydraConfig.get().overrides.task)))
    values = {key: value for key, value in flatten(defaults) if not str(value).startswith("${")}
    nodes = {key.rpartition(".")[0]: NODE for key in values if "." in key}
    return nodes | {key: TYPES[type(v)] for key, v in values.items() if type(v) in TYPES and "._" not in key}


def _sets_other_keys(domains: Mapping[str, Domain]) -> bool:
    """Whether an override or a config of the user's may set a key without a domain.

    Otherwise the defaults need not be composed, which takes as long as composing the configuration.
    """
    hydra = HydraConfig.get()
    own = [source for source in hydra.runtime.config_sources if source.schema == "file" and source.path != str(CONF)]
    keys = {key_of(word) for word in hydra.overrides.task if not word.startswith("~")}
    return bool(own) or not keys <= {*domains, *groups()}


def _command() -> str:
    return str(HydraConfig.get().job.config_name) if HydraConfig.initialized() else ""
