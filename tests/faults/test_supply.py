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


def test_every_package_of_the_lock_has_hashes() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    packages = re.findall(r"^[\w.-]+==.*", lock, re.MULTILINE)
    assert len(packages) > 100
    assert re.findall(r"^([\w.-]+==.*)\n    --hash=sha256:[0-9a-f]{64}\b", lock, re.MULTILINE) == packages
    assert "--require-hashes" in (CHECKOUT / "scripts/environment.sh").read_text()


def uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found
    return found


def write_wheel(path: Path) -> None:
    """A package with one empty module."""
    info = f"{path.name.partition('-py3')[0]}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def test_a_tampered_wheel_is_refused(tmp_path: Path, survived: Survived) -> None:
    """By the installer and the option of scripts/environment.sh."""
    wheel, lock, site = tmp_path / "tiny-1.0-py3-none-any.whl", tmp_path / "lock", tmp_path / "site"
    write_wheel(wheel)
    good = wheel.read_bytes()
    lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(good).hexdigest()}\n")
    offline = ["--find-links", str(tmp_path), "--no-index", "--no-cache", "--target", str(site)]
    install = [uv(), "pip", "install", "--quiet", "--require-hashes", "-r", str(lock), *offline]
    with zipfile.ZipFile(wheel, "a") as archive:  # still a valid wheel
        archive.writestr("more.py", "")
    refused = subprocess.run(install, capture_output=True, text=True)
    assert refused.returncode, refused
    assert "Hash mismatch" in refused.stderr
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in refused.stderr
    assert not (site / "tiny.py").exists()
    wheel.write_bytes(good)
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (site / "tiny.py").exists()
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
