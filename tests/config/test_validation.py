"""The checks that run before torch is imported."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fashion_vgg.config import domains, suggestions, validation
from fashion_vgg.config.overrides import shown
from fashion_vgg.errors import UserError
from tests.conftest import Command
from tests.helpers import composed

VALID = [
    ("seed", 0),
    ("image_size", 224),
    ("data.val_size", 59_990),
    ("optimizer.lr", 1e-8),
    ("optimizer.lr", 3),
    ("optimizer.momentum", 0.9),
    ("model.dropout", 0),
    ("model.head", "light"),
    ("model.conv_arch", [[1, 64], [2, 128]]),
    ("model.conv_arch", [[[3, "lrn"], 64], [[3, 3, 1], 128], [[7], 128]]),
    ("init_weights", None),
    ("data.mean", 0.449),
    ("trainer.devices", "auto"),
    ("trainer.strategy", "ddp_find_unused_parameters_true"),
    ("trainer.devices", [0, 1]),
    ("trainer.limit_train_batches", 20),
    ("trainer.limit_train_batches", 0.5),
    ("trainer.deterministic", "warn"),
]
INVALID = [
    ("seed", -1, "an integer from 0 to 4294967295"),
    ("seed", 1.5, "an integer from 0"),
    ("trainer.strategy", "ddp_spawn", "auto, or one whose processes repeat the command (ddp, fsdp)"),
    ("batch_size", 0, "an integer of at least 1"),
    ("batch_size", "many", "an integer of at least 1"),
    ("batch_size", True, "an integer of at least 1"),
    ("batch_size", None, "an integer of at least 1"),
    ("data.val_size", 60_000, "0 or an integer from 10 to 59990"),
    ("optimizer.lr", 0, "a number above 0"),
    ("optimizer.lr", float("nan"), "a number above 0"),
    ("optimizer.lr", float("inf"), "a number above 0"),
    ("optimizer.momentum", float("inf"), "a number of at least 0"),
    ("model.dropout", 1.5, "a number from 0 to 1"),
    ("model.head", "dens", "one of dense, compact, light"),
    ("trainer.devices", 0, "an integer of at least 1 or auto or a list of devices"),
    ("trainer.limit_train_batches", 0, "an integer of at least 1 or a share"),
    ("trainer.limit_train_batches", 0.0, "an integer of at least 1 or a share"),
    ("trainer.limit_val_batches", 1.5, "an integer of at least 0 or a number from 0 to 1"),
    ("trainer.deterministic", 1, "one of true, false, warn"),
    ("data.root", "", "a text"),
    ("model.conv_arch", 3, "a list of pairs [convolutions, channels]"),
    ("model.conv_arch", [], "a list of pairs"),
    ("model.conv_arch", [[1, 64], [2]], "a list of pairs"),
    ("model.conv_arch", [[0, 64]], "a list of pairs"),
    ("model.conv_arch", [[[3, 2], 64]], "a list of pairs"),
    ("model.conv_arch", [[["lrn"], 64]], "a list of pairs"),
    ("model.conv_arch", [[[], 64]], "a list of pairs"),
    ("model.conv_arch", [[[3, "norm"], 64]], "a list of pairs"),
    ("init_weights", 3, "null or a text"),
    ("data.std", 0, "a number above 0"),
    ("in_channels", 0, "an integer of at least 1"),
]


@pytest.mark.parametrize(("key", "value"), VALID)
def test_a_valid_value_passes(key: str, value: Any) -> None:
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, key, value)
    validation.check(cfg)


@pytest.mark.parametrize(("key", "value", "values"), INVALID)
def test_an_invalid_value_is_reported_with_the_valid_ones(key: str, value: Any, values: str) -> None:
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, key, value)
    with pytest.raises(UserError) as error:
        validation.check(cfg)
    assert str(error.value).startswith(f"{key}={shown(value)} does not fit: use {values}")


WRONG_TYPES = [
    ("model.batch_norm=3", "one of true, false"),
    ("trainer.log_every_n_steps=often", "an integer"),
    ("callbacks.slow_run_notice.quick_command=3", "a text"),
    ("callbacks.best.save_on_train_epoch_end=1.5", "one of true, false"),
    ("callbacks.throughput=3", "null, or set its keys"),
]


@pytest.mark.parametrize(("override", "values"), WRONG_TYPES)
def test_a_key_without_a_domain_has_the_type_of_its_default(fashion_vgg: Command, override: str, values: str) -> None:
    done = fashion_vgg("train", override)
    assert (done.returncode, done.stderr) == (2, f"{override} does not fit: use {values}.\n")


def test_a_value_in_a_config_of_the_users_has_the_type_of_its_default(fashion_vgg: Command, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nmodel: {batch_norm: 3}\n")
    done = fashion_vgg("train", f"--config-dir={tmp_path}", "experiment=mine", "optimizer.lr=0.1")
    assert (done.returncode, done.stderr) == (2, "model.batch_norm=3 does not fit: use one of true, false.\n")


def test_every_domain_is_of_a_key_of_a_shipped_config() -> None:
    """A renamed key would leave its domain without effect."""
    searched = [composed("train", "scheduler=triangular", "optimizer=muon"), composed("bench", "bench=growth")]
    searched += [composed("train", "trainer=ddp")]
    searched += [composed("train", f"scheduler={name}") for name in ("step", "plateau")]
    searched += [composed(name) for name in ("describe", "test", "export", "predict", "analyze", "serve")]
    for key in domains.DOMAINS:
        parent, _, name = key.rpartition(".")
        nodes = [OmegaConf.select(cfg, parent) if parent else cfg for cfg in searched]
        assert any(node is not None and name in list(node) for node in nodes), key


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("optimizer.lrr", "optimizer.lr"), ("lr", "optimizer.lr"), ("batchsize", "batch_size"), ("modle", "model")],
)
def test_the_most_similar_key_is_suggested(word: str, nearest: str) -> None:
    assert suggestions.suggestion(word, [*domains.DOMAINS, "model", "data"]) == f" Did you mean {nearest}?"


def test_nothing_is_suggested_for_an_unlike_word() -> None:
    assert suggestions.suggestion("xyzzy", domains.DOMAINS) == ""


@pytest.mark.parametrize("setting", ["monitor=val/loss", "mode=min", "filename=a", "dirpath=a", "+save_top_k=3"])
def test_the_best_checkpoint_is_what_readers_of_a_run_expect(setting: str) -> None:
    sign, setting = setting[: setting.startswith("+")], setting.removeprefix("+")
    with pytest.raises(
        UserError, match=f"callbacks.best.{setting} does not fit: use .*, or add another ModelCheckpoint"
    ):
        validation.check(composed("train", f"{sign}callbacks.best.{setting}", "output_dir=x"))


def test_averages_that_may_reach_no_checkpoint_are_refused() -> None:
    averaging = "+callbacks.swa={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging, swa_lrs: 0.01}"
    with pytest.raises(UserError, match=r"callbacks\.swa: .* use EMAWeightAveraging"):
        validation.check(composed("train", averaging, "output_dir=x"))


@pytest.mark.parametrize("key", ["model.in_channels", "data.channels", "data.image_size"])
def test_a_shared_key_is_not_set_for_one_component_only(key: str) -> None:
    with pytest.raises(UserError, match=rf"{key}=2 does not fit \w+=\d+: set (in_channels|image_size) alone\."):
        validation.check(composed("train", f"{key}=2", "output_dir=x"))
