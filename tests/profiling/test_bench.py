"""What the benchmark counts and how; how long things take is not tested."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fashion_vgg.models.vgg import VGG, vgg_block
from fashion_vgg.profiling import bench_plots
from fashion_vgg.profiling.roofline import Ceilings, count_work, measure_ceilings
from fashion_vgg.profiling.rounds import Result
from fashion_vgg.reference import d2l
from tests.conftest import Command


@pytest.fixture
def narrow() -> nn.Module:
    with torch.device("meta"):
        return VGG(d2l.VGG11, ratio=4)


def test_the_narrow_networks_operations_are_those_that_pytorch_counts(narrow: nn.Module) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        narrow(torch.empty(1, 1, 224, 224, device="meta")).sum().backward()
    assert count_work(narrow, (1, 224, 224), momentum=False).flop_an_image() == counter.get_total_flops()


def test_the_bytes_of_a_network_counted_by_hand() -> None:
    with torch.device("meta"):
        net = nn.Sequential(
            *(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),  # 16 numbers in, 32 out, 8 after pooling
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    forward = (16 + 32) + (32 + 8) + (8 + 3)
    backward = (8 + 32 + 32) + (16 + 32) + 2 * (8 + 3) + 3  # pooling and ReLU, by weights, the dense layer's
    weights = (2 * 18 + 3 * 18) + (3 * 24 + 3 * 24)  # 18 and 24: read by each product, and thrice by the step
    work = count_work(net, (1, 4, 4), momentum=False)
    assert work.bytes_an_image(batch_size=10, bytes_a_number=4) == pytest.approx(
        4 * (forward + backward + weights / 10)
    )


@pytest.mark.parametrize(("pool_before_norm", "normalised"), [(False, 32), (True, 8)])
def test_a_batch_norm_reads_its_own_numbers_three_times_more(pool_before_norm: bool, normalised: int) -> None:
    def numbers(batch_norm: bool) -> float:
        net = vgg_block(1, 1, 2, batch_norm, batch_norm and pool_before_norm)
        return count_work(net, (1, 4, 4), momentum=False).bytes_an_image(1, 4) / 4

    assert numbers(batch_norm=True) - numbers(batch_norm=False) == pytest.approx(3 * normalised)


def test_the_least_time_is_the_slower_of_arithmetic_and_memory_in_each_pass(narrow: nn.Module) -> None:
    work = count_work(narrow, (1, 224, 224), momentum=False)
    arithmetic = Ceilings(1e12, 1e30)
    memory = Ceilings(1e30, 1e10)
    assert work.least_seconds(128, arithmetic, 4) == pytest.approx(128 * work.flop_an_image() / 1e12)
    assert work.least_seconds(128, memory, 4) == pytest.approx(128 * work.bytes_an_image(128, 4) / 1e10)
    both = work.least_seconds(128, Ceilings(1e12, 1e10), 4)
    bounds = work.least_seconds(128, arithmetic, 4), work.least_seconds(128, memory, 4)
    assert max(bounds) < both < sum(bounds)


def test_momentum_is_read_and_written_too(narrow: nn.Module) -> None:
    plain, with_momentum = (count_work(narrow, (1, 224, 224), momentum) for momentum in (False, True))
    weights = sum(layer.weight.numel() for layer in narrow.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    difference = with_momentum.bytes_an_image(1, 4) - plain.bytes_an_image(1, 4)
    assert difference == pytest.approx(2 * weights * 4)


def test_ceilings_of_this_machine_are_possible_ones() -> None:
    ceilings = measure_ceilings(torch.device("cpu"), torch.float32)
    assert 1e9 < ceilings.flop_per_sec < 1e14
    assert 1e8 < ceilings.bytes_per_sec < 1e13


class SomeLoop:
    name, dtype = "some loop", torch.float32

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.epoch = 60_000 // batch_size
        self.work = count_work(nn.Sequential(nn.Linear(8, 3)), (1, 1, 8), momentum=False)

    def seconds(self, warmup: int, steps: int) -> float:
        raise AssertionError("the times of this loop are given")


def test_ratios_are_taken_within_a_round_and_count_images() -> None:
    slow, fast = Result(SomeLoop(100)), Result(SomeLoop(50))
    slow.step_seconds, fast.step_seconds = [2.0, 4.0, 6.0], [0.5, 1.0, 6.0]
    assert fast.times_faster(slow) == pytest.approx(
        2.0
    )  # four times the steps of half the images, in two rounds of three
    row = slow.to_dict(Ceilings(1.0, 1e30))
    assert row["images_per_sec"] == 25
    assert row["images_per_sec_spread"] == pytest.approx((50 - 100 / 6) / 2)
    assert row["limit_images_per_sec"] == pytest.approx(1 / (2 * 2 * 24))  # the products forward and by weights


SMALL = [
    *("trainer=cpu", "image_size=32", "batch_size=16", "model.ratio=32", "model.hidden=64"),
    *("bench.rounds=2", "bench.block_seconds=0.1"),
]


@pytest.fixture(scope="module")
def compared(fashion_vgg: Command, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("bench")
    seeds = ["bench.seed_loop.image_size=32", "bench.seed_loop.batch_size=16"]
    done = fashion_vgg("bench", f"data.root={data_root}", *SMALL, *seeds, root=root)
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = root.glob("outputs/bench/*/*/")
    return done.stdout, folder


@pytest.mark.long
def test_bench_prints_the_three_loops_and_what_the_limit_is_made_of(compared: tuple[str, Path]) -> None:
    stdout, _ = compared
    for row in ("the seed's loop  ", "our network, bare loop  ", "Trainer.fit  "):
        assert f"\n{row}" in stdout
    for words in ("GFLOP/s in a matrix product", "GB/s in a copy", "of the limit", "equal to the last bit"):
        assert words in stdout
    assert "NOT EQUAL" not in stdout


@pytest.mark.long
def test_bench_leaves_its_figures_and_a_picture(compared: tuple[str, Path]) -> None:
    _, folder = compared
    content = json.loads((folder / "bench.json").read_text())
    assert [loop["name"] for loop in content["loops"]] == ["the seed's loop", "our network, bare loop", "Trainer.fit"]
    for loop in content["loops"]:
        assert loop["images_per_sec"] > 0
        assert 0 < loop["share_of_limit"] < 1
        assert loop["host_bytes"] > 1e8
        assert len(loop["step_seconds"]) == 2
    assert content["data"]["equal_to_the_last_bit"] is True
    assert content["guards"]["share"] > content["guards"]["checkpoint_seconds"] / 300 > 0
    assert content["guards"]["checkpoint_bytes"] > 10_000
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_the_bars_are_the_figures(compared: tuple[str, Path]) -> None:
    content = json.loads((compared[1] / "bench.json").read_text())
    [axes] = bench_plots.compare(content).axes
    widths = [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    assert widths == [loop["images_per_sec"] for loop in content["loops"]]


@pytest.mark.long
def test_growth_measures_each_size(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
    sizes = ["bench.growth.batch_size=[8]", "bench.growth.image_size=[64]"]
    done = fashion_vgg("bench", "bench=growth", f"data.root={data_root}", *SMALL, *sizes, root=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    [path] = tmp_path.glob("outputs/bench/*/*/bench.json")
    content = json.loads(path.read_text())
    names = ["batch_size=8", "image_size=64"]
    assert [loop["name"] for loop in content["loops"]] == names
    work = [loop["gflop_an_image"] for loop in content["loops"]]
    assert work[0] < work[1]
    assert path.with_name("bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.devices=2", "bench measures one device: leave out trainer.devices and trainer.num_nodes."),
        ("batch_size=60000", "batch_size=60000: an epoch has too few steps to be timed; use a smaller one."),
        ("trainer.precision=64-true", "trainer.precision=64-true: bench knows 32-true and bf16-mixed."),
        ("bench.seed_loop.image_size=100", "bench.seed_loop.image_size=100 does not fit: use a multiple of 32."),
        ("bench=quik", "bench=quik: there is no such config. Did you mean quick? There are: full, growth, quick."),
    ],
)
def test_what_cannot_be_measured_is_told(fashion_vgg: Command, data_root: Path, override: str, message: str) -> None:
    done = fashion_vgg("bench", f"data.root={data_root}", override)
    assert (done.returncode, done.stderr) == (2, f"{message}\n")
