"""What glibc does with the memory of freed tensors."""

import platform

import pytest

from tests.conftest import Command

FREE_A_TENSOR = """
import sys
from pathlib import Path
import torch
from fashion_vgg.training.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
tensor = torch.ones(2**26)
del tensor
print(*[line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is configured")
def test_a_process_keeps_the_memory_of_a_freed_tensor(fashion_vgg: Command) -> None:
    resident = {}
    for mode in ("returned", "kept"):
        resident[mode] = int(fashion_vgg.start(mode, program=["-c", FREE_A_TENSOR]).result().stdout)
    assert resident["kept"] > resident["returned"] + 2**18 - 2**14  # kB: 256 MB, less what varies
