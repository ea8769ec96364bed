"""One training in several processes that torchrun or SLURM starts, as if on two machines."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fashion_vgg.config import launch
from fashion_vgg.runs.run import find_runs
from tests.helpers import only, read_summary, weights

pytestmark = pytest.mark.long

TRAIN = ("-m", "fashion_vgg", "train")


@pytest.fixture
def small(data_root: Path) -> list[str]:
    """Without dropout, whose random numbers are each process's own."""
    return [
        *(f"data.root={data_root}", "model.ratio=16", "model.hidden=32", "model.dropout=0", "image_size=32"),
        *("batch_size=98", "trainer.max_epochs=2", "trainer.limit_train_batches=10", "trainer.limit_val_batches=8"),
    ]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def run_beside(root: Path, commands: Sequence[Sequence[str]], envs: Sequence[dict[str, str]]) -> list[str]:
    """Run commands at once to their ends; what each printed."""
    root.mkdir(exist_ok=True)
    base = os.environ | {"FASHION_VGG_ROOT": str(root)}
    processes = [
        subprocess.Popen(command, env=base | env, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command, env in zip(commands, envs, strict=True)
    ]
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return [out for out, _ in said]


def assert_trained_the_same(one: Path, two: Path) -> None:
    """They differ by the order in which the same numbers are added."""
    for part in ("final", "best"):
        for name, value in read_summary(one)[part].items():
            if name not in ("images_per_sec", "test/acc", "train/acc"):
                assert read_summary(two)[part][name] == pytest.approx(value, rel=1e-4), name
    for (name, value), other in zip(weights(one).items(), weights(two).values(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=5e-5, msg=name)


def torchrun(port: int, small: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *rendezvous]
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2", "trainer.devices=1"]
    return [*launcher, *TRAIN, *small, *ddp, *further]


def test_two_nodes_under_torchrun_train_what_one_process_does_and_go_on_together(
    small: list[str], tmp_path: Path
) -> None:
    alone, nodes = tmp_path / "alone", tmp_path / "nodes"
    run_beside(alone, [[sys.executable, *TRAIN, *small, "trainer=cpu"]], [{}])
    one_epoch = torchrun(free_port(), small, ["trainer.max_epochs=1"])
    out = run_beside(nodes, [one_epoch, one_epoch], [{}, {}])
    assert sum(text.count("examples/sec") for text in out) == 1
    folder = only(nodes, "outputs/train/*/*")
    more = torchrun(free_port(), [f"resume={folder}", "trainer.max_epochs=2"])
    run_beside(nodes, [more, more], [{}, {}])
    assert only(nodes, "outputs/train/*/*") == folder
    assert read_summary(folder)["devices"] == 2
    assert_trained_the_same(only(alone, "outputs/train/*/*"), folder)


def test_two_nodes_under_slurm_train_what_one_process_does(small: list[str], tmp_path: Path) -> None:
    """`srun` sets these variables, of which Lightning makes its cluster; there is no SLURM to be had in a test."""
    alone, nodes = tmp_path / "alone", tmp_path / "nodes"
    run_beside(alone, [[sys.executable, *TRAIN, *small, "trainer=cpu"]], [{}])
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "vgg", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    job |= {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2", "trainer.devices=1", "resume=auto"]
    command = [sys.executable, *TRAIN, *small, *ddp]
    run_beside(nodes, [command] * 2, [{**job, "SLURM_PROCID": rank, "SLURM_NODEID": rank} for rank in "01"])
    assert_trained_the_same(only(alone, "outputs/train/*/*"), only(nodes, "outputs/train/*/*"))
    assert [run.status for run in find_runs(nodes)] == ["finished"]


def test_a_process_that_is_the_first_or_alone_keeps_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert launch.arguments(["seed=1"]) == ["seed=1"]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("RANK", "0")
    assert launch.arguments(["seed=1"]) == ["seed=1"]
    monkeypatch.setenv("RANK", "1")
    further = launch.arguments(["hydra.run.dir=/run", "seed=1"])
    assert further == ["hydra.run.dir=/run", "seed=1", "hydra.output_subdir=null", "hydra/job_logging=disabled"]
