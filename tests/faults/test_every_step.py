"""A training saves a checkpoint after each step; resumed from any of them, it ends in the same bits."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from fashion_vgg.checkpoints import restore, signals
from fashion_vgg.training import History
from fashion_vgg.training.build import build_classifier, build_trainer, configure_lightning_logging
from tests.conftest import WITHOUT_PLOTS, Survived
from tests.faults.conftest import LONG, in_the_long_set
from tests.helpers import assert_same, composed

# Without patience, and with a threshold that no epoch reaches, it lowers the rate after every epoch but the first.
PLATEAU = [
    "scheduler=plateau",
    "classifier.scheduler_monitor=train/loss",
    "scheduler.patience=0",
    "scheduler.threshold=1",
]
AVERAGE = {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging", "decay": 0.9}


class Copies(L.Callback):
    """Keeps each checkpoint that `PeriodicCheckpoint`, which is called before, saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []

    def copy(self, *args: Any, **kwargs: Any) -> None:
        path = self.folder / f"{len(self.paths)}.ckpt"
        newest = self.folder / "last.ckpt"
        if newest.exists() and newest.stat().st_ino not in [copy.stat().st_ino for copy in self.paths]:
            path.hardlink_to(newest)
            self.paths.append(path)

    on_train_batch_start = on_validation_batch_start = on_train_epoch_start = on_train_end = copy


def configured(folder: Path, data_root: Path, more: list[str]) -> DictConfig:
    model = [] if any(word.startswith("model=") for word in more) else ["model=vgg5_light"]
    overrides = [
        *(f"data.root={data_root}", *model, "model.ratio=16", "model.dropout=0.3", "image_size=28"),
        *("trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=16", "trainer.limit_val_batches=2"),
        *("data.flip=0.5", "data.shift=2", "data.erase=6", "scheduler=triangular", "optimizer.momentum=0.9"),
        *("batch_size=32", "checkpoint.every_minutes=0", f"output_dir={folder}", *WITHOUT_PLOTS, *more),
    ]
    cfg = composed("train", *overrides)
    with open_dict(cfg):
        cfg.callbacks.average = AVERAGE
    return cfg


def fitted(cfg: DictConfig, checkpoint: Path | None, *callbacks: L.Callback) -> L.LightningModule:
    """Train, and return the module."""
    Path(cfg.output_dir).mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = build_trainer(
        cfg, History(cfg.output_dir), restore.CheckRestored(), instantiate(cfg.checkpoint), *callbacks
    )
    classifier = build_classifier(cfg)
    trainer.fit(classifier, instantiate(cfg.data), ckpt_path=checkpoint)
    return classifier


def trained(cfg: DictConfig, checkpoint: Path | None, *callbacks: L.Callback) -> dict[str, Any]:
    """Train, and return the last checkpoint and the averaged weights."""
    classifier = fitted(cfg, checkpoint, *callbacks)
    state: dict[str, Any] = torch.load(Path(cfg.output_dir, "last.ckpt"), weights_only=True)
    return state | {"averaged": classifier.state_dict()}


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
@pytest.mark.parametrize(
    ("more", "steps", "twice", "few"),
    [
        ([], 48, 3, slice(14, 17)),
        (["model=vgg5_whitening", "optimizer=muon"], 48, 3, slice(15, 17)),
        *(
            pytest.param(*case, marks=in_the_long_set)
            for case in (
                (["trainer.accumulate_grad_batches=2", "trainer.val_check_interval=5"], 24, 0, slice(1, 4)),
                (["data.num_workers=2"], 48, 3, slice(13, 16)),
                (["trainer.val_check_interval=0.5"], 48, 3, slice(6, 9)),
                (["scheduler=cosine"], 48, 3, slice(15, 17)),
                (PLATEAU, 48, 3, slice(15, 17)),
                (["trainer.max_steps=40"], 40, 2, slice(37, 40)),
            )
        ),
    ],
)
def test_resuming_from_any_step_is_exact(
    data_root: Path,
    tmp_path: Path,
    survived: Survived,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    steps: int,
    twice: int,
    few: slice,
) -> None:
    configure_lightning_logging()
    monkeypatch.setattr(signals, "listen", lambda *args: None)  # leave Ctrl-C to pytest
    copies = Copies(tmp_path / "whole")
    expected = trained(configured(tmp_path / "whole", data_root, more), None, copies)
    # One per step; two for the last step of an epoch, before the evaluation and after it.
    assert len(copies.paths) == steps + twice
    saved = [torch.load(path, weights_only=True)["global_step"] for path in copies.paths]
    assert sorted(set(saved)) == list(range(1, steps + 1))
    chosen = copies.paths[:-1] if LONG else copies.paths[few]
    for number, checkpoint in enumerate(chosen):
        folder = tmp_path / f"resumed-{number}"
        state = trained(configured(folder, data_root, more), checkpoint)
        assert_same(expected, state, str(checkpoint))
        shutil.rmtree(folder)
    survived("exact resume from every step", len(chosen), len(chosen))


class Recorder(L.Callback):
    """Records the step and the best checkpoint at the end of a training."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.steps = trainer.global_step
        self.best = [str(getattr(callback, "best_model_path", "")) for callback in trainer.checkpoint_callbacks]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    configure_lightning_logging()
    monkeypatch.setattr(signals, "listen", lambda *args: None)
    return ["data.val_size=1000", "trainer.limit_train_batches=2"]


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_moved_run_keeps_its_best_checkpoint(data_root: Path, tmp_path: Path, short: list[str]) -> None:
    trained(configured(tmp_path / "old", data_root, short), None)
    (tmp_path / "old").rename(tmp_path / "new")
    recorder = Recorder()
    trained(configured(tmp_path / "new", data_root, short), tmp_path / "new" / "last.ckpt", recorder)
    assert str(tmp_path / "new" / "best.ckpt") in recorder.best


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_an_epoch_is_evaluated_before_the_time_ends_the_training(
    data_root: Path, tmp_path: Path, short: list[str]
) -> None:
    limit = ["trainer.max_time={seconds: 0.001}"]  # over after the first step
    copies, recorder = Copies(tmp_path / "limited"), Recorder()
    trained(configured(tmp_path / "limited", data_root, limit), None, copies, recorder)
    assert recorder.steps == 1
    assert [torch.load(path, weights_only=True)["epoch"] for path in copies.paths] == [0]  # after the evaluation
    copies = Copies(tmp_path / "whole")
    trained(configured(tmp_path / "whole", data_root, []), None, copies)
    state = trained(configured(tmp_path / "resumed", data_root, limit), copies.paths[2], recorder)
    assert recorder.steps == 4
    assert [row["epoch"] for row in state["callbacks"]["History"]["rows"]] == [1]


KEY = "EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_early_stopping_holds_after_resuming(data_root: Path, tmp_path: Path, short: list[str]) -> None:
    cfg = configured(tmp_path / "run", data_root, short)
    early = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss", "stopping_threshold": 1e6}
    with open_dict(cfg):
        cfg.callbacks.early = early
    for checkpoint in (None, tmp_path / "run" / "last.ckpt"):
        recorder = Recorder()
        trained(cfg, checkpoint, recorder)
        assert recorder.steps == 2  # of six
    with open_dict(cfg):
        cfg.callbacks.early = early | {"patience": 9, "stopping_threshold": None}
    copies = Copies(tmp_path / "run")
    trained(cfg, tmp_path / "run" / "last.ckpt", recorder, copies)
    assert recorder.steps == 6
    trained(cfg, copies.paths[1], recorder)  # interrupted once more
    assert recorder.steps == 6
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["callbacks"][KEY]["patience"] == 9


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_the_accumulation_of_an_epoch_holds_after_resuming(data_root: Path, tmp_path: Path, short: list[str]) -> None:
    def cfg(name: str) -> DictConfig:
        cfg = configured(tmp_path / name, data_root, ["scheduler=none", "trainer.max_epochs=2"])
        accumulation = "lightning.pytorch.callbacks.GradientAccumulationScheduler"
        with open_dict(cfg):
            cfg.callbacks.accumulation = {"_target_": accumulation, "scheduling": {0: 4, 1: 2}}
        return cfg

    copies = Copies(tmp_path / "whole")
    expected = trained(cfg("whole"), None, copies)
    assert [torch.load(path, weights_only=True)["global_step"] for path in copies.paths[:2]] == [1, 2]
    assert_same(expected, trained(cfg("resumed"), copies.paths[1]), "resumed after two of four steps")
