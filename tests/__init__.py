"""The tests. This file sets the environment, before a test module imports torch and Lightning, which read it."""

import os

# A test is not part of the job in which somebody runs it, and sets what it is about.
CLUSTER = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
for name in list(os.environ):
    if name in CLUSTER or name.startswith(("SLURM_", "TORCHELASTIC_", "RAY_", "HYDRA_", "FASHION_VGG_TRUST")):
        del os.environ[name]

# The networks are small, and pytest-xdist runs a worker on each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# For the commands that tests start; for the tests themselves pyproject.toml has the filters.
os.environ["PYTHONWARNINGS"] = "default"
