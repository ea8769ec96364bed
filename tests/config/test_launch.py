"""One training in several processes that torchrun or SLURM starts, as on two machines."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fashion_vgg.config import launch
from fashion_vgg.errors import UserError
from fashion_vgg.runs.run import find_runs
from tests.conftest import Command
from tests.helpers import free_ports, only, read_summary, weights

DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2", "trainer.devices=1"]


@pytest.fixture(scope="module")
def small(data_root: Path) -> list[str]:
    """Without dropout, whose random numbers differ from process to process."""
    return [
        *(f"data.root={data_root}", "model.ratio=16", "model.hidden=32", "model.dropout=0", "image_size=32"),
        *("batch_size=98", "trainer.max_epochs=2", "trainer.limit_train_batches=10", "trainer.limit_val_batches=8"),
    ]


@pytest.fixture(scope="module")
def single_process(fashion_vgg: Command, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, to compare with."""
    root = tmp_path_factory.mktemp("single")
    assert fashion_vgg("train", *small, "trainer=cpu", root=root).returncode == 0
    return only(root, "outputs/train/*/*")


def assert_equal_but_for_rounding(one: Path, other: Path) -> None:
    """The processes add the same gradients in another order; float32 rounding grows over the 20 steps."""
    for part in ("final", "best"):
        for name, value in read_summary(one)[part].items():
            if name not in ("images_per_sec", "test/acc", "train/acc"):
                assert read_summary(other)[part][name] == pytest.approx(value, rel=1e-4), name
    for (name, value), theirs in zip(weights(one).items(), weights(other).values(), strict=True):
        torch.testing.assert_close(value, theirs, rtol=0, atol=5e-5, msg=name)


def run_two_nodes(fashion_vgg: Command, root: Path, overrides: Sequence[str]) -> list[str]:
    """Run a training under torchrun as two nodes of one process; return what each node prints."""
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_ports(1)[0]}", "--rdzv-id=test"]
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *rendezvous, "-m", "fashion_vgg"]
    nodes = [fashion_vgg.start("train", *overrides, program=torchrun, fork=False, root=root) for _ in range(2)]
    done = [node.result() for node in nodes]
    assert [node.returncode for node in done] == [0, 0], done
    return [node.stdout for node in done]


@pytest.mark.thorough
def test_two_nodes_under_torchrun_train_like_one_process_and_resume(
    fashion_vgg: Command, small: list[str], single_process: Path, tmp_path: Path
) -> None:
    printed = run_two_nodes(fashion_vgg, tmp_path, [*small, *DDP, "trainer.max_epochs=1"])
    assert sum(text.count("examples/sec") for text in printed) == 1
    folder = only(tmp_path, "outputs/train/*/*")
    run_two_nodes(fashion_vgg, tmp_path, [f"resume={folder}", "trainer.max_epochs=2"])
    assert only(tmp_path, "outputs/train/*/*") == folder
    assert read_summary(folder)["devices"] == 2
    assert_equal_but_for_rounding(single_process, folder)


@pytest.mark.thorough
def test_two_nodes_under_slurm_train_like_one_process(
    fashion_vgg: Command, small: list[str], single_process: Path, tmp_path: Path
) -> None:
    """With the variables that `srun` sets, from which Lightning detects the cluster."""
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "vgg", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    job |= {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    tasks = [
        fashion_vgg.start(
            *("train", *small, *DDP, "resume=auto"),
            env={**job, "SLURM_PROCID": rank, "SLURM_NODEID": rank},
            fork=False,
            root=tmp_path,
        )
        for rank in "01"
    ]
    done = [task.result() for task in tasks]
    assert [task.returncode for task in done] == [0, 0], done
    assert_equal_but_for_rounding(single_process, only(tmp_path, "outputs/train/*/*"))
    assert [run.status for run in find_runs(tmp_path)] == ["finished"]


def test_only_a_further_process_gets_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert launch.expand(["seed=1"]) == ["seed=1"]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("RANK", "0")
    assert launch.expand(["seed=1"]) == ["seed=1"]
    monkeypatch.setenv("RANK", "1")
    further = launch.expand(["hydra.run.dir=/run", "seed=1"])
    assert further == ["hydra.run.dir=/run", "seed=1", "hydra.output_subdir=null", "hydra/job_logging=disabled"]


@pytest.mark.parametrize(
    ("tasks", "per_node", "name", "devices", "nodes", "fits"),
    [
        *((None, None, "vgg", 2, 1, True), ("1", None, "vgg", 1, 1, True), ("8", "4", "vgg", 4, 2, True)),
        *(("4", "4", "vgg", "auto", 1, True), ("1", None, "bash", 2, 1, True), ("2", "2", "vgg", [0, 1], 1, True)),
        *(("2", None, "vgg", 2, 1, False), ("1", None, "vgg", 2, 1, False), ("2", "2", "vgg", 1, 1, False)),
    ],
)
def test_slurm_must_start_a_task_for_each_process(
    monkeypatch: pytest.MonkeyPatch,
    tasks: str | None,
    per_node: str | None,
    name: str,
    devices: int | str | list[int],
    nodes: int,
    fits: bool,
) -> None:
    variables = {"SLURM_NTASKS": tasks, "SLURM_NTASKS_PER_NODE": per_node, "SLURM_JOB_NAME": name}
    for variable, value in variables.items():
        if value is not None:
            monkeypatch.setenv(variable, value)
    if fits:
        launch.check_tasks(devices, nodes)
    else:
        with pytest.raises(UserError, match=rf"^SLURM has started {tasks} tasks? for a training of "):
            launch.check_tasks(devices, nodes)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({}, "fashion-vgg train"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "GROUP_WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "4"},
            "torchrun --nproc-per-node 4 -m fashion_vgg train",
        ),
        (
            {"TORCHELASTIC_RUN_ID": "x", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "4"},
            "fashion-vgg train (by torchrun on each machine, as before)",
        ),
        ({"SLURM_NTASKS": "2"}, "fashion-vgg train (by srun, as before)"),
        ({"SLURM_NTASKS": "1"}, "fashion-vgg train"),
    ],
)
def test_a_command_line_to_resume_starts_as_many_processes(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], line: str
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert launch.command_line("train") == line
