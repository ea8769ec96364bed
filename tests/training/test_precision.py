"""``trainer.precision=auto``: the faster one of this machine, which a resumed run keeps."""

import copy
import platform
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import fashion_vgg
from fashion_vgg.commands import bench
from fashion_vgg.inference.predictor import Predictor
from fashion_vgg.training import build, precision
from tests.conftest import Command
from tests.helpers import composed, only, read_summary

PRECISIONS = ("bf16-mixed", "32-true")
SLOW_BFLOAT16 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Makes torch's library emulate bfloat16, as on a processor without instructions for it."""


@pytest.mark.parametrize(("bfloat16_seconds", "expected"), [(0.4, "bf16-mixed"), (0.9, "32-true"), (8.0, "32-true")])
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    bfloat16_seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: bfloat16_seconds}
    monkeypatch.setattr(precision, "_product_seconds", seconds.__getitem__)
    assert precision.choose("cpu") == expected


def test_auto_is_replaced_by_a_precision_of_the_trainer() -> None:
    cfg = composed("train", "trainer=cpu", "trainer.precision=auto", "output_dir=nowhere")
    build.check_components(cfg)
    assert cfg.trainer.precision in PRECISIONS


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without instructions for bfloat16, and no GPU."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(precision, "_product_seconds", {torch.float32: 1.0, torch.bfloat16: 50.0}.__getitem__)


@pytest.mark.parametrize(("chosen", "warns"), [("bf16-mixed", True), ("bf16-true", True), ("32-true", False)])
def test_a_training_in_emulated_bfloat16_is_reported(
    emulated: None, caplog: pytest.LogCaptureFixture, chosen: str, warns: bool
) -> None:
    build.check_components(composed("train", f"trainer.precision={chosen}", "output_dir=nowhere"))
    warning = f"trainer.precision={chosen}: this CPU computes bfloat16 more slowly than float32; 32-true or auto is"
    assert (warning in caplog.text) == warns


def test_a_benchmark_leaves_out_emulated_bfloat16_unless_it_is_named(
    emulated: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.second_precision(composed("bench")) is None
    assert "bench.second_precision=bf16-mixed times it" in capsys.readouterr().out
    assert bench.second_precision(composed("bench", "bench.second_precision=bf16-mixed")) == "bf16-mixed"


@pytest.mark.parametrize("trained", ["bf16-mixed", "bf16-true"])
def test_a_network_predicts_in_float32_where_bfloat16_is_emulated(emulated: None, trained: str) -> None:
    images = torch.randint(256, (4, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = fashion_vgg.load("speedrun")
    net = copy.deepcopy(expected.net)
    if trained == "bf16-true":
        expected.net.bfloat16().float()  # rounds the weights
        net.bfloat16()
    predictor = Predictor(net, expected.card | {"precision": trained})
    assert torch.equal(predictor.logits(images), expected.logits(images))


@pytest.mark.thorough
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable names an instruction set of x86-64")
def test_a_run_keeps_the_precision_that_was_measured(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    auto = [*tiny, "trainer.precision=auto", "trainer.max_epochs=1", "trainer.limit_val_batches=1.0"]
    done = fashion_vgg("train", *auto, root=tmp_path, env=SLOW_BFLOAT16, fork=False)
    assert "Precision 32-true: this CPU multiplies bfloat16 at 0." in done.stdout, done.stderr
    run = only(tmp_path, "outputs/train/*/*")
    resumed = fashion_vgg("train", f"resume={run}", "trainer.max_epochs=2", root=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "Precision" not in resumed.stdout  # nothing was measured
    assert OmegaConf.load(run / "config.yaml").trainer.precision == "32-true"
    tested = fashion_vgg("test", f"weights={run}", root=tmp_path)
    assert (tested.returncode, tested.stderr) == (0, "")
    assert f"test acc {read_summary(run)['final']['test/acc']:.4f}" in tested.stdout
