"""Checks the READMEs: commands compose, programs run, outputs and named files are up to date."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate
from PIL import Image

from fashion_vgg.config import validation
from fashion_vgg.config.app import groups
from fashion_vgg.config.overrides import key_of
from fashion_vgg.data import fashion_mnist
from fashion_vgg.inference import sources
from fashion_vgg.training import build
from tests.conftest import Command
from tests.helpers import composed

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "conf", "outputs/results", "scripts", "tests")
README = {folder: (ROOT / folder / "README.md").read_text() for folder in FOLDERS}
TEXT = "\n".join(README.values())
MISTAKES = re.findall(r"^\$ fashion-vgg (.*)\n(.*)$", TEXT, re.MULTILINE)
PROGRAMS = [
    re.findall(rf"```python\n({first}.*?)```", TEXT, re.DOTALL)[0]
    for first in ("import fashion_vgg", "from functools", "import json")
]


def commands() -> list[str]:
    """The arguments of every `fashion-vgg` in a code block or in backticks, without comments and placeholders."""
    found = re.findall(r"^ *fashion-vgg (.*?)(?:\s+#.*)?$|`fashion-vgg ([^`]*)`", TEXT, re.MULTILINE)
    arguments = {re.sub(r"\S*[<>]\S*|\.\.\.", "", block or inline).strip() for block, inline in found}
    # What completion prints is tested in the shells.
    return sorted(words for words in arguments if " " in words and not re.search("-cp|^completion", words))


def overrides_in_tables() -> list[str]:
    """The overrides in the second column of the tables `to | write`, with the flag -m or without."""
    tables = re.findall(r"^\| to \| write \|\n\| --- \| --- \|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    cells = [row.rpartition(" | ")[2] for table in tables for row in table.splitlines()]
    found = {words for cell in cells for words in re.findall(r"`([^`]*=[^`]*|~[^`]*)`", cell)}
    return sorted(words for words in found if "<" not in words and "fashion-vgg" not in words)


def first_job(words: str) -> list[str]:
    """The overrides of a sweep's first job, without the ranges of a search."""
    job = [word for word in shlex.split(words) if not re.match("-m$|sweep.resume=|.*=tag", word)]
    job = [word.replace("=glob(kernels/*)", "=kernels/one_7x7") for word in job]
    return [re.sub(r"^([\w./]+=[^,({\[]*),.*", r"\1", word) for word in job]


def write_example(folder: Path) -> dict[str, str]:
    """Write the files of conf/README.md, whose first line names them, and return its environment variables."""
    for path, content in re.findall(r"```\w+\n# (mine/\S+)\n(.*?)```", README["conf"], re.DOTALL):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    [variables] = re.findall(r"^export (.*)$", README["conf"], re.MULTILINE)
    return dict(word.split("=") for word in variables.split())


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 40
    assert len(overrides_in_tables()) >= 30
    assert len(MISTAKES) == 4


@pytest.mark.parametrize("command", [words for words in commands() if not re.match("runs|report|.* --", words)])
def test_a_command_composes(command: str) -> None:
    name, _, words = command.partition(" ")
    if name in ("train", "bench"):
        check_training(name, words)
    else:
        validation.check(composed(name, *first_job(words)))


def check_training(command: str, words: str) -> None:
    """What `train` checks before it reads the data, on a CPU."""
    cfg = composed(command, *first_job(words), "output_dir=.", "trainer.accelerator=cpu")
    validation.check(cfg)
    build.check_components(cfg)
    for node in build.callback_nodes(cfg).values():
        instantiate(node)


def is_value(words: str) -> bool:
    """Whether words set one key, and choose no config."""
    key = key_of(words)
    return " " not in words and key not in groups() and "/" not in key


def test_values_of_the_tables_compose() -> None:
    """All at once, one value of each key; the thorough tests below compose each of them."""
    words = [word for cell in overrides_in_tables() if is_value(cell) for word in first_job(cell)]
    assert len(words) >= 20
    validation.check(composed("train", *words, "output_dir=."))


@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher/\w+' is validated")  # see `fashion_vgg.config.app`
@pytest.mark.parametrize(
    "words",
    [pytest.param(words, marks=pytest.mark.thorough if is_value(words) else ()) for words in overrides_in_tables()],
)
def test_overrides_of_a_table_compose(words: str) -> None:
    check_training("train", words)


@pytest.mark.parametrize("command", [words for words in commands() if re.match("runs|report|.* --", words)])
def test_the_flags_of_a_command_exist(fashion_vgg: Command, tmp_path: Path, command: str) -> None:
    env = write_example(tmp_path)
    prints = re.search("--cfg|--info|--help", command) or command.startswith(("runs", "report"))
    done = fashion_vgg(*shlex.split(command), *([] if prints else ["--cfg", "job"]), root=tmp_path, env=env)
    assert done.returncode == 0 or "no sweep found" in done.stderr or "no such folder" in done.stderr, done.stderr


@pytest.mark.parametrize(("command", "message"), MISTAKES)
def test_a_mistake_is_reported_as_shown(fashion_vgg: Command, command: str, message: str) -> None:
    assert fashion_vgg(*shlex.split(command)).stderr == f"{message}\n"


def test_the_table_of_layers_is_what_describe_prints(fashion_vgg: Command) -> None:
    assert f"```\n{fashion_vgg('describe').stdout}```" in README["outputs/results"]


@pytest.mark.long
def test_the_users_own_parts_train_test_and_resume(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
    env = write_example(tmp_path) | {"FASHION_VGG_DATA": str(data_root)}
    small = ["trainer=cpu", "trainer.limit_train_batches=4", "trainer.limit_val_batches=2"]
    own = "--config-dir=mine/conf"
    done = fashion_vgg("train", own, "experiment=mine", *small, root=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 2 ended" in done.stdout
    [run] = (tmp_path / "outputs" / "train").glob("*/*")
    for command in (["test", own, f"weights={run}"], ["train", own, f"resume={run}"]):
        done = fashion_vgg(*command, root=tmp_path, env=env)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(fashion_vgg: Command, data_root: Path, tmp_path: Path, program: str) -> None:
    shutil.copy(sources.SPEEDRUN, tmp_path / "weights.safetensors")
    boot = Image.fromarray(fashion_mnist.load(data_root, "test")[0][0].numpy())
    for name in ("shoe.jpg", "boot.png"):
        boot.save(tmp_path / name)
    if "model.onnx" in program:
        words = ["weights=speedrun", "format=onnx", "preprocess=true", f"data.root={data_root}"]
        assert fashion_vgg("export", *words, f"to={tmp_path}/model.onnx").returncode == 0
    program = program.replace("~/.cache/fashion-vgg", str(data_root))
    done = fashion_vgg.start(program=["-c", program], root=tmp_path).result()
    assert done.returncode == 0, done.stderr
    assert "functools" in program or done.stdout.startswith("ankle boot")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_named_file_exists(folder: str) -> None:
    links = [(ROOT / folder / link).resolve() for link in re.findall(r"\]\((?!https?:)([^)#]+)", README[folder])]
    named = [ROOT / path for path in re.findall(r"`((?:conf|src|tests|scripts)/[\w/.]+)`", README[folder])]
    missing = [path for path in [*links, *named] if not path.exists()]
    assert not missing


def test_the_code_map_names_every_folder_and_file() -> None:
    code_map = README["."].partition("## Code map")[2]
    entries = [path for path in (ROOT / "src/fashion_vgg").iterdir() if path.name != "__pycache__"]
    assert not [path.name for path in entries if f"`{path.name}{'/' if path.is_dir() else ''}`" not in code_map]


@pytest.mark.parametrize(("precision", "seeds"), [("32-true", 1), ("bf16-mixed", 3)])
def test_the_table_of_epochs_is_that_of_the_stored_runs(precision: str, seeds: int) -> None:
    runs = sorted(map(str, ROOT.glob(f"outputs/results/d2l/{precision},*")))
    assert len(runs) == seeds
    done = subprocess.run(
        [sys.executable, "scripts/epochs.py", *runs], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout in README["outputs/results"]
