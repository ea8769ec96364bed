"""What is installed is what the lock names; what listens, listens to this machine alone."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.faults.conftest import Training, in_the_long_set

CHECKOUT = Path(__file__).parents[2]


def pinned(package: str) -> str:
    """A package's lines of the lock, hashes included."""
    lock = (CHECKOUT / "requirements.lock").read_text()
    found = re.search(rf"^{package}==(?:.*\\\n)+.*\n", lock, re.MULTILINE)
    assert found
    return found[0]


def uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found
    return found


def test_a_tampered_wheel_is_refused(tmp_path: Path, survived: Survived) -> None:
    lock = tmp_path / "lock"
    lock.write_text(pinned("markdown"))
    wheels = tmp_path / "wheels"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), "-r", str(lock)]
    fetched = subprocess.run([*download, "--require-hashes"], capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip("no package index is to be reached")
    [wheel] = wheels.glob("*.whl")
    target = ["--target", str(tmp_path / "site"), "--find-links", str(wheels), "--no-index", "--no-cache", "--no-deps"]
    install = [uv(), "pip", "install", "--quiet", "--require-hashes", "-r", str(lock), *target]
    good = wheel.read_bytes()
    with zipfile.ZipFile(wheel, "a") as archive:  # a whole wheel still, with a module more
        archive.writestr("more.py", "")
    refused = subprocess.run(install, capture_output=True, text=True)
    assert refused.returncode, refused
    assert "Hash mismatch" in refused.stderr
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in refused.stderr
    wheel.write_bytes(good)
    assert subprocess.run(install, capture_output=True).returncode == 0
    survived("a tampered wheel is refused by the lock's hashes", 1, 1)


@in_the_long_set
def test_no_known_vulnerability_is_locked(survived: Survived) -> None:
    audit = [uv(), "tool", "run", "pip-audit", "--requirement", "requirements.lock", "--disable-pip", "--no-deps"]
    done = subprocess.run(audit, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
    if "could not be audited" in done.stdout + done.stderr:
        pytest.skip("the service that knows of vulnerabilities is not to be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    survived("pip-audit of the lock finds nothing known", 1, 1)


def listening() -> set[str]:
    """Local addresses of TCP sockets that take connections, from the kernel's tables."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(fields[1])
    return found


@in_the_long_set
def test_a_training_opens_no_port(small: list[str], tmp_path: Path) -> None:
    before = listening()
    training = Training(tmp_path / "run", small)
    seen: set[str] = set()

    def look() -> bool:
        seen.update(listening() - before)
        return (training.folder / "summary.json").exists()

    done = training.run_until(look, 0, *training.first())
    assert done.returncode == 0, done.stderr
    assert not seen
