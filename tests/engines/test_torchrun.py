"""A training by torchrun on two machines, which are network namespaces here, one of which is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from tests.faults.conftest import children
from tests.helpers import assert_same, curves
from tests.processes.command import Command
from tests.processes.process import Process

ADDRESSES = ("10.213.0.1", "10.213.0.2")
NODES = ("fashion-vgg-0", "fashion-vgg-1")


def ip(*words: str) -> CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.fixture
def machines() -> Iterator[Sequence[str]]:
    """Two network namespaces, connected by a cable."""
    try:
        for node in NODES:
            ip("netns", "add", node)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Network namespaces are not allowed: {error}")
    try:
        ip("link", "add", "veth0", "netns", NODES[0], "type", "veth", "peer", "name", "veth0", "netns", NODES[1])
        for node, address in zip(NODES, ADDRESSES, strict=True):
            ip("-n", node, "address", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                ip("-n", node, "link", "set", device, "up")
        yield NODES
    finally:
        for node in NODES:
            ip("netns", "delete", node)


def start(command: Command, node: str, words: Sequence[str], root: Path) -> Process:
    """`torchrun` on one of the machines; the first one is the meeting point."""
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:29400", "--rdzv-id=test", "--max-restarts=0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *rendezvous]
    # The host's name is another one's in a namespace, so that torchrun cannot see which of the two it is.
    number = NODES.index(node)
    local = [f"--local-addr={ADDRESSES[number]}", f"--rdzv-conf=is_host={1 - number}"]
    line = ["ip", "netns", "exec", node, *torchrun, *local, "-m", "fashion_vgg", "train", *words]
    program = ["-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"]
    return command.start(*line, program=program, root=root, env={"GLOO_SOCKET_IFNAME": "veth0"}, fork=False)


def test_a_training_on_two_machines_survives_the_loss_of_one(
    fashion_vgg: Command, machines: Sequence[str], data_root: Path, tmp_path: Path
) -> None:
    small = [
        *(f"data.root={data_root}", "model=vgg5_light", "model.ratio=4", "model.dropout=0.3", "image_size=28"),
        *("trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2", "trainer.devices=1", "batch_size=64"),
        *(
            "trainer.max_epochs=3",
            "trainer.limit_train_batches=100",
            "data.val_size=1000",
            "checkpoint.every_minutes=0",
        ),
    ]
    whole, run = tmp_path / "whole", tmp_path / "run"
    nodes = [start(fashion_vgg, node, [*small, f"hydra.run.dir={whole}"], tmp_path) for node in machines]
    done = [node.result() for node in nodes]
    assert [node.returncode for node in done] == [0, 0], done

    first, second = (start(fashion_vgg, node, [*small, f"hydra.run.dir={run}"], tmp_path) for node in machines)
    first.wait_until((run / "metrics.csv").exists)
    for pid in children(second.pid):
        os.kill(pid, signal.SIGKILL)
    second.send_signal(signal.SIGKILL)
    done = [first.result(), second.result()]
    assert done[0].returncode == 1, done
    assert "Another process of the training died or hangs" in done[0].stderr
    assert f"Resume with: fashion-vgg train resume={run} (by torchrun on each machine, as before)" in done[0].stderr

    nodes = [start(fashion_vgg, node, [f"resume={run}"], tmp_path) for node in machines]
    done = [node.result() for node in nodes]
    assert [node.returncode for node in done] == [0, 0], done
    one, other = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, run))
    assert_same(one["state_dict"], other["state_dict"], "weights")
    assert_same(curves(whole), curves(run), "events")
