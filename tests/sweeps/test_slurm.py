"""What the launcher for SLURM says; tests/engines has its tests on a SLURM."""

import pytest

from fashion_vgg.sweeps import slurm

PREFIX = "sbatch: error: "
FAILED = f"{PREFIX}Batch job submission failed: "


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (f"{PREFIX}Invalid generic resource (gres) specification", "gpus_per_node"),
        (f"{PREFIX}invalid partition specified: x\n{FAILED}Invalid partition name specified", "partition"),
        (f"{PREFIX}Memory specification can not be satisfied\n{FAILED}Requested node configuration is not", "mem_gb"),
        (f"{PREFIX}CPU count per node can not be satisfied\n{FAILED}Requested node", "cpus_per_task"),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", "timeout_min"),
        (f"{FAILED}Invalid account or account/partition combination specified", "account"),
        (f"{FAILED}Invalid qos specification", "qos"),
        (f"{FAILED}Invalid feature specification", "constraint"),
        (f"{FAILED}Node count specification invalid", "nodes"),
    ],
)
def test_a_refusal_names_the_key(printed: str, line: str) -> None:
    message = slurm._refusal(printed)
    reason = printed.splitlines()[0].removeprefix(FAILED).removeprefix(PREFIX)
    assert message == f"SLURM refused the jobs: {reason}. Change hydra.launcher.{line}."
