"""Sweeps on a Ray cluster of two nodes, one of which is lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_vgg.runs.run import find_runs
from tests.helpers import assert_equal, free_ports, wait_until
from tests.processes.command import Command

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-tests"}


class Node:
    """A Ray node, started from another folder and with another environment than the sweep's."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        own = ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=100000000", "--block"]
        line = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, *own, "--disable-usage-stats"]
        env = {**os.environ, **TOKEN, "FASHION_VGG_ROOT": str(folder)}
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(line, cwd=folder, env=env, stdout=null, stderr=null, start_new_session=True)

    def kill(self) -> None:
        """Kill all of its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def cluster() -> Iterator[tuple[str, Node]]:
    """The address of a cluster of two nodes, and the second one."""
    pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    head = Node(folder / "head", "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}/ray")
    second = None
    try:
        wait_until(lambda: count_nodes(address) >= 1, 60)
        second = Node(folder / "second", f"--address={address}")
        wait_until(lambda: count_nodes(address) >= 2, 60)
        yield address, second
    finally:
        for node in filter(None, (second, head)):
            if node.process.poll() is None:
                node.kill()
        shutil.rmtree(folder)


def count_nodes(address: str) -> int:
    status = [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address={address}"]
    done = subprocess.run(status, env={**os.environ, **TOKEN}, capture_output=True, text=True, check=False)
    return done.stdout.count("node_")


def test_a_sweep_goes_on_without_a_node_that_is_lost_and_resumes_on_the_same_cluster(
    fashion_vgg: Command, cluster: tuple[str, Node], data_root: Path, tmp_path: Path
) -> None:
    address, second = cluster
    small = [
        *(f"data.root={data_root}", "model=vgg5_light", "model.ratio=4", "model.dropout=0.3", "image_size=28"),
        *("trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=100", "batch_size=64"),
        *("data.val_size=1000", "checkpoint.every_minutes=0", "seed=0,1,2"),
    ]
    done = fashion_vgg("train", "-m", *small, f"hydra.sweep.dir={tmp_path}/plain", root=tmp_path)
    assert done.returncode == 0, done
    env = {**TOKEN, "RAY_ADDRESS": None}
    ray = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}", "hydra.launcher.ray.remote.num_cpus=1"]
    process = fashion_vgg.start("train", "-m", *small, *ray, root=tmp_path, env=env, fork=False)
    process.wait_until(lambda: len([*tmp_path.glob("outputs/sweeps/*/*/*/metrics.csv")]) == 2)
    second.kill()
    process.wait_until(lambda: len([*tmp_path.glob("outputs/sweeps/*/*/*/summary.json")]) == 1)
    process.send_signal(signal.SIGTERM)
    stopped = process.result()
    assert stopped.returncode == 143, stopped
    done = fashion_vgg("train", "-m", "sweep.resume=last", root=tmp_path, env=env, fork=False)
    assert done.returncode == 0, done
    port = address.rpartition(":")[2]
    assert re.search(rf"existing Ray cluster at address: \S+:{port}\b", done.stderr), done.stderr
    [sweep] = tmp_path.glob("outputs/sweeps/*/*")
    assert {run.status for run in find_runs(sweep)} == {"finished"}
    for name in ("seed=0", "seed=1", "seed=2"):
        assert_equal(tmp_path / "plain" / name, sweep / name)
