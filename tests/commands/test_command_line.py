"""The command line: mistakes, help, and what leads from `fashion-vgg` to the training step."""

import importlib
import re
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import Command

TRAIN = {
    *("data", "model", "optimizer", "scheduler", "classifier", "trainer", "callbacks", "checkpoint", "logger"),
    *("experiment", "debug"),
}
MISTAKES = [
    ("batch_size=0", "batch_size=0 does not fit: use an integer of at least 1."),
    ("image_size=100", "image_size=100 does not fit.* multiple of 32, such as 96 or 128"),
    ("optimizer.lr=fast", "optimizer.lr=fast does not fit: use a number above 0."),
    ("optimizer.lrr=0.1", "optimizer.lrr: no such key. Did you mean optimizer.lr?"),
    ("lr=0.1", "lr: no such key. Did you mean optimizer.lr?"),
    ("modle=vgg11", "modle: no such key. Did you mean model?"),
    ("model=vgg12", "model=vgg12: no such config. Did you mean vgg1[19].* Available: .*vgg11_narrow"),
    ("optimizer.nesterov=true", "Nesterov momentum requires a momentum"),
    ("+optimizer.foo=1", "torch.optim.SGD takes no foo: add ~optimizer.foo"),
    ("model.ratio=1000", "ratio=1000 leaves a block no channel: use 1 to 64"),
    ("trainer=gpu", "trainer.accelerator=gpu does not fit: no GPU found; use cpu or auto"),
    ("scheduler.pct_start=0.2", "no scheduler is chosen; add scheduler=cosine or plateau or step or triangular"),
    (
        "optimizer._target_=torch.optim.Adam",
        "torch.optim.Adam takes no momentum, nesterov: add ~optimizer.momentum ~opt",
    ),
    ("scheduler=plateau", "classifier.scheduler_monitor=val/loss needs a validation split: add data.val_size=5000"),
    ("optimizer.lr=1,2", "optimizer.lr=1,2.*sweep with -m"),
    ("optimizer.lr=[1", r"optimizer.lr=\[1: .*Write key=value"),
    ("seed=${nothing}", "Interpolation key 'nothing' not found"),
]
SIMILAR_MISTAKES = [
    ("+model.foo=1", "unexpected keyword argument 'foo'"),
    ("model=null", "model=null: a group takes the name of one of its configs"),
    ("num_classes=5", "num_classes: no such key. --cfg"),
    ("trainer.fast_dev_run=0.5", "trainer.fast_dev_run=0.5 does not fit: use one of true, false or an integer"),
    ("optimizer.lr=-1", "optimizer.lr=-1 does not fit: use a number above 0."),
    ("trainer.clip_val=1", "Did you mean trainer.gradient_clip_val?"),
    ("trainer.sync_batch_norm=true", r"Did you mean \+trainer.sync_batchnorm?"),
    ("optimizer.dampning=0.1", r"Did you mean \+optimizer.dampening?"),
    ("experiment=speedrn", "experiment=speedrn: no such config. Did you mean speedrun?"),
    ("experiment=kernel/one_7x7", r"no such config. Did you mean kernels/one_7x7\? Available: .*, kernels/one_5x5, "),
    ("+data.foo=1", "unexpected keyword argument 'foo'"),
    (
        "callbacks=early_stopping",
        "callbacks.early_stopping.monitor=val/loss needs a validation split: add data.val_siz",
    ),
    ("model.conv_arh=1", "Did you mean model.conv_arch?"),
    ("checkpoint.every_minute=1", "Did you mean checkpoint.every_minutes?"),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0 does not fit: use an integer of at least 1"),
    ("data.val_size=60000", "data.val_size=60000 does not fit: use 0 or an integer from 10 to 59990"),
    ("optimizer=[1]", r"optimizer=\[1\]: a group takes the name of one of its configs"),
    ("model.conv_arch={a:1}", r"model.conv_arch={a:1} does not fit: use a list of pairs"),
]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *(pytest.param(*mistake, id=mistake[0]) for mistake in MISTAKES),
        *(pytest.param(*mistake, id=mistake[0], marks=pytest.mark.thorough) for mistake in SIMILAR_MISTAKES),
    ],
)
def test_a_mistake_is_reported_in_at_most_two_lines(
    fashion_vgg: Command, tmp_path: Path, override: str, message: str
) -> None:
    if override == "trainer=gpu" and torch.cuda.is_available():
        pytest.skip("with a GPU this is no mistake")
    done = fashion_vgg("train", override, root=tmp_path)
    assert done.returncode == 2
    assert re.search(message, done.stderr, re.DOTALL), done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("last.ckpt"))


@pytest.mark.parametrize(
    "command", ["train", "test", "predict", "analyze", "serve", "export", "describe", "bench", "fetch"]
)
def test_parallel_launchers_can_pickle_a_command(command: str) -> None:
    cloudpickle.dumps(importlib.import_module(f"fashion_vgg.commands.{command}").main.__wrapped__)


@pytest.mark.parametrize("override", ["optimizer.lrr=1", "batch_size=0"])
def test_hydra_full_error_shows_the_traceback(fashion_vgg: Command, override: str) -> None:
    done = fashion_vgg("train", override, env={"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("trainer", ["cpu", pytest.param("ddp", marks=pytest.mark.thorough)])
def test_a_truncated_data_file_is_reported(fashion_vgg: Command, tiny: list[str], tmp_path: Path, trainer: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"truncated")
    done = fashion_vgg("train", *tiny, f"data.root={tmp_path}/data", f"trainer={trainer}", root=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/data/train-images-idx3-ubyte is truncated or altered" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_help_lists_the_groups_and_common_overrides(fashion_vgg: Command) -> None:
    for command, taken in (
        ("describe", {"model", "optimizer", "scheduler", "experiment"}),
        ("bench", {*TRAIN, "bench"}),
    ):
        text = fashion_vgg(command, "--help").stdout.partition("Overrides")[0]
        assert set(re.findall(r"^([a-z_]+): ", text, re.MULTILINE)) == taken
    done = fashion_vgg("train", "--help")
    text = done.stdout.partition("Common overrides")[0]
    assert set(re.findall(r"^([a-z_/]+): ", text, re.MULTILINE)) == {*TRAIN, "sweep", "hydra/launcher", "hydra/sweeper"}
    assert done.returncode == 0
    groups = (
        "experiment: accuracy_93, accuracy_94, best, best_cpu, d2l, d2l_fast, finetune, kernels/one_5x5,",
        "model: ",
        "trainer: cpu, ddp",
    )
    for text in (*groups, "optimizer.lr=0.1", "data.val_size=5000"):
        assert text in done.stdout
    usage = fashion_vgg("--help").stdout
    assert all(command in usage for command in ("train", "bench", "describe", "fetch"))


def test_exit_handlers_run_before_the_teardown_is_skipped(fashion_vgg: Command, tmp_path: Path) -> None:
    program = "import atexit; from fashion_vgg.__main__ import main; main(); atexit.register(print, 'the handler')"
    args = ["train", "--cfg", "job"]
    process = fashion_vgg.start(*args, root=tmp_path, program=["-c", program], fork=False)
    done = process.result(60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "the handler"), done.stderr


def test_cfg_job_prints_the_whole_configuration(fashion_vgg: Command) -> None:
    done = fashion_vgg("train", "experiment=d2l", "--cfg", "job")
    config: Any = OmegaConf.create(done.stdout)
    assert config["optimizer"]["lr"] == 0.05
    assert config["trainer"]["max_epochs"] == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["test", "-m", "trainer.precision=32-true,bf16-mixed"], "fashion-vgg test runs once: leave out -m."),
        (["bench", "hydra.mode=MULTIRUN"], "fashion-vgg bench runs once: leave out -m."),
        (["train", "--resolve"], "The --resolve flag can only be used in conjunction with --cfg or --help"),
        (["train", "-m", "--info", "config"], "Only one of --run, --multirun, --cfg, --info and --shell_completion"),
    ],
)
def test_flags_that_do_not_fit_are_reported_in_a_line(fashion_vgg: Command, words: list[str], message: str) -> None:
    done = fashion_vgg(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("word", ["trian", ""])
def test_an_unknown_command_prints_the_usage(fashion_vgg: Command, word: str) -> None:
    done = fashion_vgg(*word.split())
    assert done.returncode == 2
    assert "usage: fashion-vgg <command>" in done.stderr


def test_fetch_verifies_the_files(fashion_vgg: Command, data_root: Path) -> None:
    done = fashion_vgg("fetch", f"data.root={data_root}")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"train: 60,000 images in .*\ntest: 10,000 images in .*\n", done.stdout)


def test_runs_of_a_sweep_have_their_own_folders_whatever_is_swept(fashion_vgg: Command, tmp_path: Path) -> None:
    long = "callbacks.slow_run_notice.quick_command=" + "x" * 250
    done = fashion_vgg("train", "-m", "data.root=/a,/b", "batch_size=0", long, root=tmp_path)
    assert done.returncode == 1
    assert "batch_size=0 does not fit" in done.stderr
    [sweep] = tmp_path.glob("outputs/sweeps/*/*")
    assert len([path for path in sweep.iterdir() if path.is_dir()]) == 2


RAISING_NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, images):
        raise ArithmeticError("in the forward pass")
"""


@pytest.mark.thorough
def test_a_traceback_from_the_training_step_has_at_most_five_frames_of_ours(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "raising.py").write_text(RAISING_NET)
    config = tmp_path / "configs" / "model" / "raising.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("_target_: raising.Net\n")
    overrides = [*(word for word in tiny if not word.startswith("model")), "~callbacks.slow_run_notice"]
    done = fashion_vgg(
        *("train", *overrides, "model=raising", "-cd", str(tmp_path / "configs")),
        env={"PYTHONPATH": str(tmp_path), "FASHION_VGG_TRUST": "raising"},
        fork=False,
        root=tmp_path,
    )
    assert "ArithmeticError: in the forward pass" in done.stderr
    to_training_step, found, _ = done.stderr.partition("in training_step")
    assert found
    assert len(re.findall(r'File ".*/fashion_vgg/(?!.*site-packages).*", line', to_training_step)) <= 5
