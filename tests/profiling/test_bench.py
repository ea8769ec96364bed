"""What the benchmark counts. The durations that it measures are not tested."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.profiling import roofline
from fashion_vgg.profiling.loops import BareLoop
from fashion_vgg.profiling.roofline import Ceilings, Pass, measure_ceilings, min_seconds, step_passes
from fashion_vgg.profiling.timing import Result
from fashion_vgg.reference import d2l

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


class FakeLoop(BareLoop):
    name, dtype = "fake loop", torch.float32

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.steps_per_epoch = batch_size, 60_000 // batch_size
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
