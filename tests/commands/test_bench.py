"""`fashion-vgg bench` as users run it."""

import json
from pathlib import Path

import pytest

from fashion_vgg.profiling import bench_report
from tests.conftest import Command

SMALL = [
    *("trainer=cpu", "image_size=32", "batch_size=16", "model.ratio=32", "model.hidden=64"),
    *("bench.rounds=2", "bench.block_seconds=0.1"),
    *("bench.reference_loop.image_size=32", "bench.reference_loop.batch_size=16"),
]
LOOPS = ["the book's loop", "bare PyTorch loop", "Trainer.fit", "Trainer.fit, bf16-mixed"]

# The command, with a limit that is measured in milliseconds instead of seconds.
FAST_LIMIT = """
from fashion_vgg.profiling import roofline
roofline.MATRIX_SIDE["cpu"], roofline.COPY_BYTES["cpu"] = 512, 2**24
from fashion_vgg.__main__ import main
"""
# Its processes start by fork instead of importing torch and Lightning again.
FORK = """
import concurrent.futures, multiprocessing
from fashion_vgg.profiling import memory
context = multiprocessing.get_context("fork")
memory.own_process = lambda initializer=None: concurrent.futures.ProcessPoolExecutor(1, context, initializer)
"""


def run_bench(
    fashion_vgg: Command, data_root: Path, root: Path, *overrides: str, program: str = FAST_LIMIT
) -> tuple[str, Path]:
    """The output and the folder of a benchmark."""
    words = ["bench", f"data.root={data_root}", *SMALL, *overrides]
    env = {"OMP_NUM_THREADS": "1"}
    done = fashion_vgg.start(*words, program=["-c", f"{program}main()"], root=root, env=env).result()
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = root.glob("outputs/bench/*/*/")
    return done.stdout, folder


@pytest.fixture(scope="module")
def compared(fashion_vgg: Command, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The output and the folder of a comparison."""
    limits = ["trainer.max_steps=1", "trainer.fast_dev_run=true"]  # of a training: without influence here
    words, root = ["bench.second_precision=bf16-mixed", *limits], tmp_path_factory.mktemp("bench")
    return run_bench(fashion_vgg, data_root, root, *words, program=FAST_LIMIT + FORK)


@pytest.mark.long
def test_output_has_a_row_per_loop_and_the_limits(compared: tuple[str, Path]) -> None:
    stdout, _ = compared
    for loop in LOOPS:
        assert f"\n{loop}  " in stdout
    for words in ("GFLOP/s in a matrix product", "GB/s in a copy", "% of limit", "The images are bit-equal."):
        assert words in stdout


@pytest.mark.long
def test_json_and_plot_have_the_measurements(compared: tuple[str, Path]) -> None:
    _, folder = compared
    content = json.loads((folder / "bench.json").read_text())
    assert [loop["name"] for loop in content["loops"]] == LOOPS
    for loop in content["loops"]:
        assert loop["images_per_sec"] > 0
        assert 0 < loop["share_of_limit"] < 1
        assert loop["host_bytes"] > 1e8
        assert len(loop["step_seconds"]) == 2
    assert content["data"]["bit_equal"] is True
    cost = content["checkpoint_cost"]
    assert cost["share"] > cost["checkpoint_seconds"] / 300 > 0
    assert cost["checkpoint_bytes"] > 10_000
    [axes] = bench_report.plot(content).axes
    widths = [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    assert widths == [loop["images_per_sec"] for loop in content["loops"]]
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.thorough
def test_growth_measures_each_size(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
    growth = ["bench=growth", "bench.rounds=1", "bench.growth.batch_size=[8]", "bench.growth.image_size=[64]"]
    _, folder = run_bench(fashion_vgg, data_root, tmp_path, *growth)
    path = folder / "bench.json"
    batch, image = json.loads(path.read_text())["loops"]
    assert (batch["name"], image["name"]) == ("batch_size=8", "image_size=64")
    assert batch["gflop_per_image"] < image["gflop_per_image"]
    assert path.with_name("bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.devices=2", "bench measures one device: leave out trainer.devices and trainer.num_nodes."),
        ("batch_size=60000", "batch_size=60000: an epoch has too few steps to time; use a smaller one."),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=2: bench supports 1."),
        ("trainer.precision=64-true", "trainer.precision=64-true: bench supports 32-true and bf16-mixed."),
        (
            "bench.reference_loop.image_size=100",
            "bench.reference_loop.image_size=100 does not fit: use a multiple of 32.",
        ),
        (
            "bench=quik",
            "bench=quik: no such config. Did you mean quick? "
            "Available: full, growth, quick; your own with --config-dir.",
        ),
    ],
)
def test_mistakes_are_reported(fashion_vgg: Command, data_root: Path, override: str, message: str) -> None:
    done = fashion_vgg("bench", f"data.root={data_root}", override)
    assert (done.returncode, done.stderr) == (2, f"{message}\n")
