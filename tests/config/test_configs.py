"""Every shipped config composes, passes validation and instantiates."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF, groups
from fashion_vgg.errors import UserError
from fashion_vgg.training import History, build
from tests.conftest import WITHOUT_PLOTS
from tests.helpers import composed

GROUPS = [
    *("bench", "callbacks", "checkpoint", "classifier", "data", "debug", "experiment", "logger", "model"),
    *("optimizer", "scheduler", "sweep", "trainer"),
]


def options(group: str) -> list[str]:
    folder = CONF / group
    return [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.rglob("*.yaml"))]


def test_the_groups_are_known() -> None:
    assert sorted(groups()) == GROUPS


CHOICES = [(group, option) for group in GROUPS[1:] for option in options(group)]
TRAINED = [choice for choice in CHOICES if choice[0] in ("model", "experiment")]
SIMILAR = ("vgg13", "vgg16", "vgg19", "vgg11_narrow", "accuracy_93", "kernels/")
"""Of the models and experiments: those whose classes and keys are also another one's."""


@pytest.mark.parametrize(
    ("group", "option"),
    [pytest.param(*choice, marks=pytest.mark.thorough if choice in TRAINED else ()) for choice in CHOICES],
)
@pytest.mark.filterwarnings("ignore:The ``noload``")  # MLflow's own use of SQLAlchemy
def test_every_config_instantiates(group: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))  # MLflow's database is in its outputs/
    (tmp_path / "outputs").mkdir()
    split = ["data.val_size=600"] if option in ("early_stopping", "plateau") else []
    cfg = composed("train", f"{group}={option}", f"output_dir={tmp_path}", *split)
    validation.check(cfg)
    gpu = torch.accelerator.current_accelerator(check_available=True)
    if group == "trainer" and option in ("gpu", "mps") and (gpu is None or option not in ("gpu", gpu.type)):
        with pytest.raises(UserError, match="the GPU is of the type" if gpu else "no GPU found"):
            build.check_components(cfg)
        return
    build.check_components(cfg)
    trainer = build.build_trainer(cfg, History(str(tmp_path)))
    assert trainer.max_epochs == (1 if cfg.trainer.fast_dev_run else cfg.trainer.max_epochs)
    with torch.device("meta"):
        classifier = build.build_classifier(cfg)
    assert isinstance(classifier.net, nn.Module)
    assert instantiate(cfg.data).image_size == cfg.image_size


@pytest.mark.parametrize("bench", options("bench"))
def test_every_benchmark_composes(bench: str) -> None:
    cfg = composed("bench", f"bench={bench}", "output_dir=nowhere")
    validation.check(cfg)
    assert OmegaConf.select(cfg, "optimizer.lr") == 0.05
    assert cfg.bench.reference_loop == {"image_size": 224, "batch_size": 128, "lr": 0.05}


@pytest.mark.parametrize("model", options("model"))
def test_every_model_can_be_described(model: str) -> None:
    cfg = composed("describe", f"model={model}", "image_size=96", "in_channels=3", "num_classes=7")
    validation.check(cfg)
    with torch.device("meta"):
        net = instantiate(cfg.model)
    assert net(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 7)


@pytest.mark.long
@pytest.mark.parametrize(
    ("group", "option"),
    [pytest.param(*choice, marks=pytest.mark.thorough if choice[1].startswith(SIMILAR) else ()) for choice in TRAINED],
)
def test_every_config_trains_a_step(group: str, option: str, data_root: Path, tmp_path: Path) -> None:
    """On two real images, with an eighth of the channels."""
    cfg = composed(
        "train",
        f"{group}={option}",
        *(["image_size=96"] if group == "model" else []),
        *("++model.ratio=8", *(["model.hidden=64"] if group == "model" else [])),
        *(f"data.root={data_root}", f"output_dir={tmp_path}", "batch_size=2", "trainer=cpu", "compile=null"),
        *("trainer.max_steps=1", "trainer.limit_val_batches=0", "~callbacks.slow_run_notice", "~logger"),
        *WITHOUT_PLOTS,
    )
    validation.check(cfg)
    build.configure_lightning_logging()
    torch.manual_seed(0)
    classifier = build.build_classifier(cfg)
    before = [parameter.detach().clone() for parameter in classifier.parameters()]
    build.check_components(cfg)  # replaces a precision of auto
    trainer = build.build_trainer(cfg, History(str(tmp_path)))
    trainer.fit(classifier, instantiate(cfg.data))
    assert trainer.global_step == 1
    moved = [not torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2  # a unit may be dropped, or inactive, for both images
    assert all(bool(torch.isfinite(parameter).all()) for parameter in classifier.parameters())


def test_the_experiment_d2l_is_the_books_recipe() -> None:
    cfg = composed("train", "experiment=d2l", "output_dir=x")
    net = instantiate(cfg.model)
    assert sum(parameter.numel() for parameter in net.parameters()) == 43_093_322
    optimizer = instantiate(cfg.optimizer)(net.parameters())
    assert type(optimizer) is torch.optim.SGD
    settings = {name: optimizer.defaults[name] for name in ("lr", "momentum", "weight_decay", "nesterov")}
    assert settings == {"lr": 0.05, "momentum": 0, "weight_decay": 0, "nesterov": False}
    assert cfg.scheduler == {}
    assert (cfg.trainer.max_epochs, cfg.data.batch_size, cfg.data.image_size, cfg.data.val_size) == (10, 128, 224, 0)
    assert cfg.classifier.label_smoothing == 0
