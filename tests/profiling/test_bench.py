"""What the benchmark counts and reports. The durations that it measures are not tested."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from fashion_vgg.data import FashionMNISTDataModule
from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.profiling import bench_report, memory, roofline, timing
from fashion_vgg.profiling.loops import BareLoop, TrainerLoop, short_training
from fashion_vgg.profiling.roofline import Ceilings, Pass, measure_ceilings, min_seconds, step_passes
from fashion_vgg.profiling.timing import Benchmark, Result
from fashion_vgg.reference import d2l
from tests.helpers import composed

BATCH_SIZE = 10


def bytes_moved(net: nn.Module, size: tuple[int, int, int], batch_size: int = 1, momentum: bool = False) -> float:
    return sum(each.bytes_moved for each in step_passes(net, size, batch_size, torch.float32, momentum))


@pytest.fixture
def narrow() -> nn.Module:
    with torch.device("meta"):
        return VGG(d2l.VGG11, ratio=4)


@pytest.mark.parametrize("whitening", [False, True])
def test_operations_match_pytorchs_count(narrow: nn.Module, whitening: bool) -> None:
    with torch.device("meta"):
        net = VGG([(1, 16), *d2l.VGG11[1:]], ratio=4, whitening=True) if whitening else narrow
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(BATCH_SIZE, 1, 224, 224, device="meta")).sum().backward()
    passes = step_passes(net, (1, 224, 224), BATCH_SIZE, torch.float32, momentum=False)
    assert sum(each.flop for each in passes) == counter.get_total_flops()


def test_nothing_is_moved_backward_through_a_frozen_first_layer() -> None:
    layers = nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False)
    layers[0].requires_grad_(False)
    # Input 16 numbers, 18 weights, output 32, pooled 8; then 2 weights and 4 numbers, read for their gradient, too.
    forward = (16 + 18 + 32) + (32 + 8) + (8 + 2 + 4)
    backward = (8 + 2 + 4) + 4
    assert bytes_moved(nn.Sequential(*layers), (1, 4, 4)) == 4 * (forward + backward + 3 * 2)


def test_bytes_match_a_count_by_hand() -> None:
    with torch.device("meta"):
        net = nn.Sequential(
            *(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),  # input 16 numbers, output 32, pooled 8
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    forward = (16 + 32) + (32 + 8) + (8 + 3)
    # The pooling and ReLU, the gradient of the convolution's weights, both gradients of the dense layer, its output.
    backward = (8 + 32 + 32) + (16 + 32) + 2 * (8 + 3) + 3
    # The products read 18 weights twice and 24 weights thrice; SGD reads or writes each three times.
    weights = (2 + 3) * 18 + (3 + 3) * 24
    assert bytes_moved(net, (1, 4, 4), BATCH_SIZE) == 4 * (BATCH_SIZE * (forward + backward) + weights)


@pytest.mark.parametrize(("pool_before_norm", "normalized"), [(False, 32), (True, 8)])
def test_batch_norm_reads_its_input_three_times_more(pool_before_norm: bool, normalized: int) -> None:
    without = vgg_block(1, 1, 2, batch_norm=False, pool_before_norm=False)
    with_norm = vgg_block(1, 1, 2, batch_norm=True, pool_before_norm=pool_before_norm)
    assert bytes_moved(with_norm, (1, 4, 4)) - bytes_moved(without, (1, 4, 4)) == 4 * 3 * normalized


def test_momentum_is_read_and_written(narrow: nn.Module) -> None:
    plain, with_momentum = (bytes_moved(narrow, (1, 224, 224), momentum=momentum) for momentum in (False, True))
    weights = sum(layer.weight.numel() for layer in narrow.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert with_momentum - plain == 4 * 2 * weights


def test_each_pass_is_limited_by_arithmetic_or_memory() -> None:
    passes = [Pass(8, 2), Pass(3, 9)]
    assert min_seconds(passes, Ceilings(flop_per_sec=1, bytes_per_sec=1e30)) == 8 + 3
    assert min_seconds(passes, Ceilings(flop_per_sec=1e30, bytes_per_sec=1)) == 2 + 9
    assert min_seconds(passes, Ceilings(flop_per_sec=1, bytes_per_sec=1)) == 8 + 9


def test_ceilings_are_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roofline.MATRIX_SIDE, "cpu", 512)
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 2**24)
    ceilings = measure_ceilings(torch.device("cpu"), torch.float32)
    assert 1e8 < ceilings.flop_per_sec < 1e14
    assert 1e7 < ceilings.bytes_per_sec < 1e13


@pytest.mark.parametrize(("interval", "updates"), [("null", 1 + 2), ("epoch", 0)])  # one in the constructor
def test_the_bare_loop_updates_the_schedule_as_often_as_the_classifier(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, interval: str, updates: int
) -> None:
    overrides = ["experiment=speedrun", "trainer.precision=32-true", "model.ratio=8", f"data.root={data_root}"]
    cfg = composed("train", *overrides, f"classifier.scheduler_interval={interval}")
    update = Mock()
    monkeypatch.setattr(torch.optim.lr_scheduler.OneCycleLR, "step", update)
    BareLoop(cfg, torch.device("cpu")).time_steps(0, 2)
    assert update.call_count == updates


@pytest.mark.long
def test_a_new_process_resolves_the_configuration_of_its_loop(data_root: Path) -> None:
    overrides = "experiment=speedrun", "trainer=cpu", "trainer.precision=32-true", f"data.root={data_root}"
    cfg, cpu = composed("bench", *overrides), torch.device("cpu")
    with memory.own_process() as process:
        seconds, *_ = process.submit(timing._turn, TrainerLoop(cfg, cpu), 1, 1, cpu).result()
    assert seconds > 0


class FewImages(FashionMNISTDataModule):
    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.train_set = TensorDataset(*self.train_set[:1000])


def test_an_epoch_has_the_steps_of_the_data_set(data_root: Path) -> None:
    cfg = composed("train", "experiment=speedrun", "trainer.precision=32-true", f"data.root={data_root}")
    cfg.data._target_ = f"{__name__}.FewImages"
    assert BareLoop(cfg, torch.device("cpu")).steps_per_epoch == 1000 // cfg.batch_size


def test_callbacks_that_wait_for_an_evaluation_are_left_out() -> None:
    cfg = short_training(composed("train", "callbacks=early_stopping", "output_dir=x"), "folder", steps=3)
    assert {name for name, node in cfg.callbacks.items() if node is None} == {"best", "early_stopping"}


class FakeLoop(BareLoop):
    dtype = torch.float32

    def __init__(self, batch_size: int, image_size: int = 32, name: str = "fake loop") -> None:
        self.batch_size, self.image_size, self.name = batch_size, image_size, name
        self.steps_per_epoch = 60_000 // batch_size
        self.passes = [Pass(flop=96 * batch_size, bytes_moved=0)]


def test_speeds_are_compared_within_a_round() -> None:
    slow, fast = Result(FakeLoop(100)), Result(FakeLoop(50))
    slow.step_seconds, fast.step_seconds = [2.0, 4.0, 6.0], [0.5, 1.0, 6.0]
    # In two of three rounds, four times as many steps of half as many images.
    assert fast.speedup_over(slow) == pytest.approx(2.0)
    row = slow.to_dict(Ceilings(flop_per_sec=1.0, bytes_per_sec=1.0))
    assert row["images_per_sec"] == 25
    assert row["images_per_sec_spread"] == pytest.approx((50 - 100 / 6) / 2)
    assert row["limit_images_per_sec"] == pytest.approx(1 / 96)


def measured(monkeypatch: pytest.MonkeyPatch, flop_per_sec: list[float], *loops: FakeLoop) -> dict[str, Any]:
    """A benchmark's results if every step takes a second, and the ceilings are measured one after another as given."""
    rates = iter(flop_per_sec)
    monkeypatch.setattr(timing, "measure_ceilings", lambda *_: Ceilings(next(rates), 1.0))
    monkeypatch.setattr(Benchmark, "_take_turn", lambda _, process, result: result.step_seconds.append(1.0))
    benchmark = Benchmark(torch.device("cpu"), rounds=1, turn_seconds=1.0)
    benchmark.measure(*loops)
    assert list(rates) == []
    return {**benchmark.to_dict(), "device_name": "CPU"}


def test_the_limit_is_measured_again_only_if_a_loop_is_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A step of the loop has 960 operations and takes a second.
    below = measured(monkeypatch, [1000, 1920], FakeLoop(10))
    above = measured(monkeypatch, [480, 500, 1920], FakeLoop(10))
    assert [content["loops"][0]["share_of_limit"] for content in (below, above)] == [0.5, 0.5]
    lower = measured(monkeypatch, [480, 960, 100], FakeLoop(10), FakeLoop(11))  # the higher rate counts
    assert [loop["share_of_limit"] for loop in lower["loops"]] == [1.0, None]


def test_no_share_above_the_limit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    content = measured(monkeypatch, [1920] * 3, FakeLoop(10, name="slow loop"), FakeLoop(30, name="fast loop"))
    text = bench_report.report(content)
    assert [line.split()[-1] for line in text.splitlines()[1:3]] == ["50", "—"]
    busy = (
        "The machine was busy while the limit was measured: the share is above 100 % and not meaningful for fast loop."
    )
    assert busy in text.splitlines()
    panels = bench_report.plot(content | {"ratios": {}}).axes
    labels = [axes.get_yticklabels()[0].get_text().split("\n")[1] for axes in panels]
    assert labels == ["10 images/s, 50% of the limit", "30 images/s"]
    limits = [[line for line in axes.collections if line.get_label() == "limit"] for axes in panels]
    assert [len(lines) for lines in limits] == [1, 0]


def test_loops_of_different_sizes_have_their_own_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    book, bare, trainer, large = FakeLoop(128, 224), FakeLoop(512, 28), FakeLoop(512, 28), FakeLoop(128, 28)
    content = measured(monkeypatch, [1e6, 1e6], book, bare, trainer, large)
    panels = bench_report.plot(content | {"ratios": {}}).axes
    bars = {axes.get_title(loc="left"): [bar.get_width() for bar in axes.patches] for axes in panels}  # type: ignore[attr-defined]
    assert bars == {
        "224 px, batch size 128": [128],
        "28 px, batch size 512": [512, 512],
        "28 px, batch size 128": [128],
    }
