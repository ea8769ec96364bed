"""`fashion-vgg describe` as users run it. tests/profiling and tests/models/test_family.py test the numbers."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from fashion_vgg.reference import d2l
from tests.conftest import Command

COLUMNS = ["parameters", "multiply-adds", "field", "stride", "saved", "MB", "gradients", "MB"]


def book_rows(net: nn.Sequential) -> list[str]:
    """What the book's loop over the blocks prints, without the tab."""
    x, rows = torch.empty(1, 1, 224, 224, device="meta"), []
    for block in net:
        x = block(x)
        rows.append(f"{block.__class__.__name__} output shape: {list(x.shape)}")
    return rows


def test_output_shapes_match_the_book(fashion_vgg: Command, tmp_path: Path) -> None:
    done = fashion_vgg("describe", root=tmp_path)
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.partition("\n\n")[0].splitlines()
    *rows, total = lines
    assert header.split() == COLUMNS
    with torch.device("meta"):
        expected = book_rows(d2l.vgg(d2l.VGG11))
    assert [" ".join(row.split("]")[0].split()) + "]" for row in rows] == expected
    assert total.split()[:2] == ["total", "128,806,154"]
    assert list(tmp_path.iterdir()) == []


def test_layers_match_the_formulas(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "model=vgg11_narrow", "image_size=96", "layers=true")
    assert done.returncode == 0, done.stderr
    rows = [line.partition("]")[0].split() + line.partition("]")[2].split() for line in done.stdout.splitlines()]
    # A convolution has 9 in out + out parameters and 9 in out H W multiply-adds.
    assert [rows[1][0], rows[1][1], *rows[1][8:12]] == [
        *("blocks.0.0", "Conv2d"),
        *(f"{9 * 16 + 16:,}", f"{9 * 16 * 96 * 96:,}", "3", "1"),
    ]
    layers = [row for row in rows if len(row) > 1]
    assert [row[0] for row in layers if row[1] == "Linear"] == ["head.1", "head.4", "head.7"]
    assert len([row for row in layers if row[1] == "Conv2d"]) == 8


def test_vgg16_has_the_papers_parameters(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "model=vgg16", "image_size=224", "in_channels=3", "num_classes=1000")
    assert done.returncode == 0, done.stderr
    assert "138,357,544" in done.stdout


def test_networks_are_shown_side_by_side_and_drawn(fashion_vgg: Command, tmp_path: Path) -> None:
    networks = "kernels/three_3x3,kernels/one_7x7"
    done = fashion_vgg("describe", "-m", f"experiment={networks}", "picture=stacks.svg", root=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    header, *rows = [line.split() for line in done.stdout.splitlines()]
    assert header == networks.split(",")
    convolutions = [row for row in rows if "blocks.1" in row]
    assert convolutions[1][-2:] == [f"{count * 32**2 * 14**2:,}" for count in (27, 49)]
    assert convolutions[2][-2:] == ["18", "18"]  # the receptive fields
    assert [file.name for file in tmp_path.iterdir()] == ["stacks.svg"]
    assert "svg" in ElementTree.parse(tmp_path / "stacks.svg").getroot().tag  # noqa: S314


@pytest.mark.thorough
def test_json_has_estimated_and_measured_memory(fashion_vgg: Command) -> None:
    done = fashion_vgg(
        "describe", "model=vgg11_narrow", "image_size=64", "batch_size=32", "measure=true", "format=json"
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["parameters"] == sum(layer["parameters"] for layer in content["layers"])
    assert content["layers"][0]["output_shape"] == [1, 16, 64, 64]
    step = content["step_bytes"]
    assert step["weights"] == 4 * content["parameters"]
    # The process needs more than the tensors: workspace, and the code of the libraries that it loads.
    assert step["peak"] < step["measured"] < 2 * step["peak"] + 200_000_000


def test_markdown_has_the_blocks_in_order(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "-m", "model=alexnet,vgg11", "format=markdown")
    assert done.returncode == 0, done.stderr
    header, _, *rows = [line.split(" | ") for line in done.stdout.splitlines()]
    assert header[2:] == ["alexnet", "vgg11 |"]
    assert [row[1] for row in rows[:7]] == [*(f"blocks.{number}" for number in range(5)), "head", "total"]
    assert rows[0][3] == "640 |"


MISTAKES = [
    *("image_size=100", "layers=maybe", "format=xml", "picture=vgg.bmp", "model.conv_arch=[[[2],64]]"),
    *("model.in_channels=3", "batch_size=1000000000000", "optimizer._target_=torch.optim.Adamw"),
]
SIMILAR_MISTAKES = ["image_size=-1", "model=vgg12", "imagesize=64", "picture=.png", "picture=/", "batch_size=0"]


@pytest.mark.parametrize(
    "override", [*MISTAKES, *(pytest.param(override, marks=pytest.mark.thorough) for override in SIMILAR_MISTAKES)]
)
def test_mistakes_are_reported_in_one_line(fashion_vgg: Command, override: str) -> None:
    done = fashion_vgg("describe", override)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert override.split("=")[0] in done.stderr


def test_a_mistake_in_a_multirun_is_reported_with_its_overrides(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "-m", "image_size=96,100,64", "format=json")
    assert done.returncode == 2
    assert [network["size"] for network in json.loads(done.stdout)] == [[1, 96, 96], [1, 64, 64]]
    job, mistake = done.stderr.splitlines()
    assert "image_size=100" in job
    assert mistake.startswith("image_size=100 does not fit")


def test_a_batch_that_torch_rejects_is_reported(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "experiment=speedrun", "batch_size=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("batch_size=1: Expected more than 1 value per channel")


def test_a_missing_folder_of_the_picture_is_reported(fashion_vgg: Command, tmp_path: Path) -> None:
    done = fashion_vgg("describe", f"picture={tmp_path}/no/vgg.png")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
