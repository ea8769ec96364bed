"""Ways to damage the files of a run's folder."""

import errno
import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fashion_vgg.checkpoints import run_folder

OVERRIDES = run_folder.OVERRIDES.as_posix()
FILES = (run_folder.CONFIG, run_folder.SUMMARY, run_folder.OUTCOME, run_folder.METRICS, OVERRIDES)

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A "billion laughs": 400 bytes of YAML whose aliases stand for 9 ** 9 texts."""


def put(folder: Path, name: str, content: str | bytes) -> None:
    """Replace a file of a run's folder, or add it."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def summary(**changed: Any) -> str:
    """The content of a ``summary.json`` with other values."""
    metrics = {"epoch": 1, "test/acc": 0.5}
    values = {"final": metrics, "best": metrics, "epochs": 1, "wall_seconds": 1.0, "images_per_sec": 1.0}
    return json.dumps(values | changed)


CONTENTS: dict[str, list[str | bytes]] = {
    run_folder.SUMMARY: [
        *("", "null", "[]", "{}", '"text"', "[" * 100_000, b"\x00\xff\xfe", "1" * 5000, '{"final": '),
        *(summary(wall_seconds=None), summary(wall_seconds="1"), summary(images_per_sec="fast"), summary(best=[])),
        *(summary(final=None), summary(final={"test/acc": "0.9"}), summary(best={"test/acc": True})),
        *(summary(final={"test/acc": float("nan")}), summary().replace("0.5", "1e999"), summary(overrides=[1])),
        summary().replace("0.5", "1" * 400),
    ],
    run_folder.METRICS: [
        *("", b"\x89PNG\r\n\x00\xff", "epoch,train/loss\n1,\x00\n", f"epoch,train/loss\n1,{'9' * 200_000}\n"),
        *("train/loss\n0.5\n", "epoch,train/loss\n1,0.5,7\n", "epoch,train/loss\n1,low\n", "epoch,a\n,1\n"),
    ],
    OVERRIDES: [
        *("", "- seed=0\n- 5\n", "seed: 0\n", "seed=0", "- [seed=0]\n", "- 'seed=0\n", b"\xff\xfe\x00", BOMB),
        *(
            "[" * 100_000,
            "- !!timestamp x\n",
            "- !!python/object/apply:os.getcwd []\n",
            "&a [*a]",
            "- *a",
            "---\n---\n",
        ),
        "--- [seed=0]\n--- [seed=1]\n",
        f"- model.conv_arch=[{'[1,2],' * 10_000}]\n",
    ],
    run_folder.CONFIG: ["model: {", b"\xff\xfe\x00", BOMB, "model: " + "[" * 100_000],
}
"""For each file, contents that are damaged or hostile."""

OUTCOMES = ("null", "[]", "{", '{"status": "finished", "error": ""}', '{"status": "failed", "error": [1]}')

NO_SETTINGS = ("", "{}", "text", "- a", "a: 1\na: 2\n", "data: 1\nmodel: 2\ntrainer: 3\n", "model: !!timestamp x")
"""Contents of ``config.yaml`` that are YAML, but no settings of a training."""


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _unreadable(path: Path) -> None:
    path.touch(mode=0)
    if os.access(path, os.R_OK):  # as root
        raise OSError(errno.EPERM, "root reads every file")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(300_000_000)


KINDS: dict[str, Callable[[Path], None]] = {
    "FIFO": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "folder": lambda path: path.mkdir(),
    "dangling link": _link("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a device": _link("/dev/zero"),
    "huge file": _huge,
    "unreadable file": _unreadable,
}
"""What may be in the place of a file, and how to make it."""


def damages() -> dict[str, Callable[[Path], None]]:
    """All of these damages by their names; each is done to the folder of a finished run."""
    found: dict[str, Callable[[Path], None]] = {}
    for name, contents in CONTENTS.items():
        found |= {f"{name} {number}": partial(put, name=name, content=text) for number, text in enumerate(contents)}
    for number, text in enumerate(OUTCOMES):
        found[f"outcome.json {number}"] = partial(fail, content=text)
    for name in FILES:
        found |= {f"{kind} as {name}": partial(_replace, name=name, make=make) for kind, make in KINDS.items()}
    return found


def fail(folder: Path, content: str) -> None:
    """Make a finished run a failed one with this ``outcome.json``."""
    (folder / run_folder.SUMMARY).unlink()
    put(folder, run_folder.OUTCOME, content)


def _replace(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    if name == run_folder.OUTCOME:  # of a finished run it is not read
        (folder / run_folder.SUMMARY).unlink()
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
