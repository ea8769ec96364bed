"""`scripts/chapter.py` as a script and as a notebook, with a short training."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import jupytext
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.conftest import Command

pytestmark = pytest.mark.long

CHAPTER = Path(__file__).parents[1] / "scripts" / "chapter.py"

# The shapes that the book prints for an image of 1x1x224x224 (section 8.2.2).
BLOCKS = [("Sequential", [1, 64 * 2 ** min(n, 3), 112 >> n, 112 >> n]) for n in range(5)]
HIDDEN = [(layer, [1, 4096]) for layer in ("Linear", "ReLU", "Dropout")]
SHAPES = [*BLOCKS, ("Flatten", [1, 25088]), *HIDDEN, *HIDDEN, ("Linear", [1, 10])]

# Parameters of the narrow network; of AlexNet in millions; of VGG-16 and VGG-19 in torchvision's metadata.
COUNTS = ["43,093,322", "AlexNet          47", "138,357,544", "143,667,240"]


@pytest.fixture(autouse=True)
def short_training(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"EPOCHS": "1", "STEPS": "5", "FASHION_VGG_DATA": str(data_root), "IPYTHONDIR": str(tmp_path)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def images(cell: Any) -> list[bytes]:
    """The PNG images among the outputs of a cell."""
    data = [output.data for output in cell.get("outputs", []) if "data" in output]
    return [base64.b64decode(item["image/png"]) for item in data if "image/png" in item]


def test_the_script_prints_the_shapes_and_counts_and_writes_the_pictures(fashion_vgg: Command, tmp_path: Path) -> None:
    done = fashion_vgg.start(program=["-c", CHAPTER.read_text()], root=tmp_path).result()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[: len(SHAPES)] == [f"{layer:<12}{shape}" for layer, shape in SHAPES]
    assert [count for count in COUNTS if count not in done.stdout] == []
    assert [line.partition(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/1"]
    assert len(list(tmp_path.glob("outputs/chapter/*.png"))) == 5


@pytest.mark.thorough
def test_the_notebook_executes_and_shows_its_pictures(tmp_path: Path) -> None:
    notebook = jupytext.read(CHAPTER)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(len(images(cell)) for cell in code) == 6
    [training] = [cell for cell in code if "trainer.fit(" in cell.source]
    [curves] = images(training)
    image = Image.open(io.BytesIO(curves)).convert("RGB")
    red, _, blue = np.split(np.asarray(image.crop((0, 0, image.width // 2, image.height)), dtype=int), 3, axis=2)
    assert (blue - red > 100).sum() > 50  # the curve of the loss, which the first drawing does not have
    assert not list(tmp_path.glob("outputs"))


def test_jupytext_writes_the_notebook_back_unchanged() -> None:
    assert jupytext.writes(jupytext.read(CHAPTER), "py:percent") == CHAPTER.read_text()


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", CHAPTER.read_text())
    assert len(links) >= 5
    assert [link for link in links if not (CHAPTER.parent / link).exists()] == []
