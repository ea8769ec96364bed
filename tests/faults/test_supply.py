"""The environment is what the lock names, and a training opens no port."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Survived
from tests.faults.conftest import MakeTraining, in_the_long_set

CHECKOUT = Path(__file__).parents[2]


def pinned(package: str) -> str:
    """The lock's entry of a package, with its hashes."""
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
        pytest.skip("needs a package index")
    [wheel] = wheels.glob("*.whl")
    target = ["--target", str(tmp_path / "site"), "--find-links", str(wheels), "--no-index", "--no-cache", "--no-deps"]
    install = [uv(), "pip", "install", "--quiet", "--require-hashes", "-r", str(lock), *target]
    good = wheel.read_bytes()
    with zipfile.ZipFile(wheel, "a") as archive:  # still a valid wheel
        archive.writestr("more.py", "")
    refused = subprocess.run(install, capture_output=True, text=True)
    assert refused.returncode, refused
    assert "Hash mismatch" in refused.stderr
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in refused.stderr
    wheel.write_bytes(good)
    assert subprocess.run(install, capture_output=True).returncode == 0
    survived("the lock's hashes refuse a tampered wheel", 1, 1)


@in_the_long_set
def test_the_lock_has_no_known_vulnerability(survived: Survived) -> None:
    audit = [uv(), "tool", "run", "pip-audit", "--requirement", "requirements.lock", "--disable-pip", "--no-deps"]
    done = subprocess.run(audit, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
    if "could not be audited" in done.stdout + done.stderr:
        pytest.skip("needs the database of vulnerabilities")
    assert done.returncode == 0, done.stdout + done.stderr
    survived("pip-audit finds no known vulnerability in the lock", 1, 1)


def opens_a_port(pid: int) -> bool:
    """Whether a process has a TCP socket that listens."""
    proc = Path("/proc", str(pid))
    tables = [line.split() for name in ("tcp", "tcp6") for line in (proc / "net" / name).read_text().splitlines()[1:]]
    listening = {f"socket:[{fields[9]}]" for fields in tables if fields[3] == "0A"}
    return any(str(link.readlink()) in listening for link in (proc / "fd").iterdir())


@in_the_long_set
def test_a_training_opens_no_port(small: list[str], training: MakeTraining, tmp_path: Path) -> None:
    process = training(tmp_path / "run", small).start()
    while process.poll() is None:
        with suppress(FileNotFoundError):  # a file was closed, or the process ended
            assert not opens_a_port(process.pid)
    assert process.result().returncode == 0
