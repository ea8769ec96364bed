"""What the README shows is what there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"^(?:\| `)?(?:\$ )?fashion-vgg ((?:train|bench|describe)[^`#\n]*)", README, re.MULTILINE))
)
MISTAKES = re.findall(r"^\$ fashion-vgg (.*)\n(.*)$", README, re.MULTILINE)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 6
    assert len(MISTAKES) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(fashion_vgg: Command, command: str) -> None:
    arguments = [re.sub(r",.*", "", word) for word in shlex.split(command) if word != "-m"]  # a sweep's first job
    done = fashion_vgg(*arguments, *(() if {"--help", "--cfg"} & set(arguments) else ("--cfg", "job")))
    assert done.returncode == (2 if "lr=0.1" in arguments else 0), done.stderr


@pytest.mark.parametrize(("command", "answer"), MISTAKES)
def test_every_mistake_is_answered_as_shown(fashion_vgg: Command, command: str, answer: str) -> None:
    assert fashion_vgg(*shlex.split(command)).stderr == f"{answer}\n"


def test_the_table_of_shapes_is_what_describe_prints(fashion_vgg: Command) -> None:
    assert f"```\n{fashion_vgg('describe').stdout}```" in README


@pytest.mark.long
def test_the_program_runs(data_root: Path, tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    program = program.replace("~/.cache/fashion-vgg", str(data_root))
    env = os.environ | {"PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_file_named_is_there() -> None:
    for path in re.findall(r"\]\((\w[\w/.]*\.png)\)|`((?:conf|src|tests|scripts)/[\w/.]+)`", README):
        assert (ROOT / "".join(path)).exists(), path
