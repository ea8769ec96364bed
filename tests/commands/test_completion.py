"""TAB in a real bash, zsh and fish."""

import importlib
import os
import pkgutil
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fashion_vgg import commands
from fashion_vgg.__main__ import COMMANDS
from fashion_vgg.commands import completion
from tests.conftest import Command

SHELLS = {"bash": ["--norc", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}
"""Interactive, without startup files."""

# What is typed before TAB, and then on the command line; @ is the cursor.
COMPLETED = {
    "fashion-vgg tr": "fashion-vgg train @",
    "fashion-vgg train exp": "fashion-vgg train experiment=@",
    "fashion-vgg train optimizer.l": "fashion-vgg train optimizer.lr=@",
    "fashion-vgg train optimizer.lr=": "fashion-vgg train optimizer.lr=0.05 @",
    "fashion-vgg train model=vgg5_w": "fashion-vgg train model=vgg5_whitening @",
    "fashion-vgg train experiment=kernels/one_7": "fashion-vgg train experiment=kernels/one_7x7 @",
    "fashion-vgg train optimizer=muon optimizer.hid": "fashion-vgg train optimizer=muon optimizer.hidden_lr_factor=@",
    "fashion-vgg train --mul": "fashion-vgg train --multirun @",
    "fashion-vgg train resume=a": "fashion-vgg train resume=a_run/@",
    "fashion-vgg test weights=a_run/la": "fashion-vgg test weights=a_run/last.ckpt @",
    "fashion-vgg test weights=./a_run/la": "fashion-vgg test weights=./a_run/last.ckpt @",
    "fashion-vgg predict images=sh": "fashion-vgg predict images=shoe.png @",
    "fashion-vgg predict sh": "fashion-vgg predict shoe.png @",
    "fashion-vgg predict shoe.png 'my hat.png' - wei": "fashion-vgg predict shoe.png my hat.png - weights=@",
    "fashion-vgg predict mo": "fashion-vgg predict models.png @",  # the group `model` is not one of predict's
    "fashion-vgg runs --sta": "fashion-vgg runs --status @",
    "fashion-vgg report a": "fashion-vgg report a_run/@",
    "fashion-vgg completion z": "fashion-vgg completion zsh @",
}
A_FEW = [
    *("fashion-vgg tr", "fashion-vgg train optimizer.l", "fashion-vgg train model=vgg5_w", "fashion-vgg train --mul"),
    *("fashion-vgg train resume=a", "fashion-vgg test weights=a_run/la", "fashion-vgg predict mo"),
]
"""A word, a key, a value, an option, a folder and files, which each shell completes in its own way."""


class Terminal:
    """A shell in a pseudo-terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process, self._output = process, b""

    def run(self, command: str) -> None:
        """Run a command to its end."""
        self._send(f"{command}; echo FINI''SHED\r")
        self._wait_for(rb"FINISHED")

    def complete(self, text: str) -> str:
        """The command line after ``text`` and TAB, with @ as the cursor."""
        self._send(f"{text}\t@\x01echo LINE: \r")  # Ctrl-A goes to the beginning, so that echo shows the line
        return self._wait_for(rb"^LINE: (.*?)\r?$")[1].decode()

    def _send(self, text: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def _wait_for(self, pattern: bytes, seconds: float = 60) -> "re.Match[bytes]":
        assert self._process.stdout
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self._output, re.MULTILINE)):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, end - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert more, f"{pattern!r} is not in {self._output!r}"
            self._output += more
        self._output = self._output[found.end() :]
        return found


@contextmanager
def terminal(shell: str, folder: Path) -> Iterator[Terminal]:
    """Start a shell that finds the console script; without the shell, skip the test, or fail it on CI."""
    script = Path(sys.executable).with_name("fashion-vgg")
    if not script.exists():
        pytest.skip("fashion-vgg is not installed in this environment")
    if shutil.which(shell) is None:
        reason = f"{shell} is missing: install it (on Debian: apt install {shell})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # The pseudo-terminal belongs to another Python process: to fork this one, which has threads, is unsafe.
    line = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", shell, *SHELLS[shell]]
    env = {"PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}
    with subprocess.Popen(line, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Terminal(process)
        finally:
            process.kill()  # closes the pseudo-terminal, so that the shell ends, too


def line_in_help(shell: str, fashion_vgg: Command) -> str:
    """The line for a shell's startup file."""
    found = re.search(rf"^  {shell} +(\S.*?)  ", fashion_vgg("completion", "--help").stdout, re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("shell", "typed"),
    [
        *((shell, A_FEW) for shell in ("bash", "zsh")),
        *(pytest.param(shell, COMPLETED, marks=pytest.mark.thorough) for shell in SHELLS),
    ],
)
def test_tab_completes_commands_overrides_options_and_files(
    shell: str, typed: Iterable[str], fashion_vgg: Command, tmp_path: Path
) -> None:
    (tmp_path / "a_run").mkdir()
    for file in ("a_run/last.ckpt", "shoe.png", "models.png"):
        (tmp_path / file).touch()
    with terminal(shell, tmp_path) as opened:
        opened.run(line_in_help(shell, fashion_vgg))
        assert {text: opened.complete(text) for text in typed} == {text: COMPLETED[text] for text in typed}


@pytest.mark.long
def test_bash_completes_values_without_the_equals_sign_among_its_word_breaks(
    fashion_vgg: Command, tmp_path: Path
) -> None:
    """Hydra's own completion of another program removes it."""
    with terminal("bash", tmp_path) as opened:
        opened.run("COMP_WORDBREAKS=${COMP_WORDBREAKS//=}; " + line_in_help("bash", fashion_vgg))
        completed = opened.complete("fashion-vgg train model=vgg5_w")
    assert completed == "fashion-vgg train model=vgg5_whitening @"


@pytest.mark.parametrize(
    ("line", "completed", "imported"),
    [
        ("fashion-vgg tr", "train", "set()"),
        ("fashion-vgg runs --sta", "--status", "{'hydra'}"),
        ("fashion-vgg train optimizer.l", "optimizer.lr=", "{'hydra'}"),
    ],
)
def test_a_query_imports_neither_torch_nor_lightning(
    fashion_vgg: Command, line: str, completed: str, imported: str
) -> None:
    slow = "{'hydra', 'lightning', 'torch'} & sys.modules.keys()"
    program = ["-c", f"import sys; from fashion_vgg.__main__ import main; main(); print({slow})"]
    done = fashion_vgg.start("completion", "bash", f"--query={line}", program=program, fork=False).result(60)
    assert done.stdout.splitlines() == [completed, imported]


def test_an_unknown_shell_is_an_error(fashion_vgg: Command) -> None:
    done = fashion_vgg("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "argument shell: invalid choice: 'tcsh'" in done.stderr.splitlines()[-1]


def test_every_command_is_completed() -> None:
    assert {module.name for module in pkgutil.iter_modules(commands.__path__)} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_hydra_starts_has_a_config_of_its_name(name: str) -> None:
    main = importlib.import_module(f"fashion_vgg.commands.{name}").main
    assert completion.is_hydra_command(name) == hasattr(main, "__wrapped__")
