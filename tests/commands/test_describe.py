"""`fashion-vgg describe` as users run it; what it counts is in test_anatomy.py and test_family.py."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from fashion_vgg.reference import d2l
from tests.conftest import Command

FIGURES = ["parameters", "multiply-adds", "field", "stride", "forward", "MB", "backward", "MB"]


def seeds_rows(net: nn.Sequential) -> list[str]:
    """What the seed's loop prints, less the white space."""
    x, rows = torch.randn(size=(1, 1, 224, 224)), []
    for block in net:
        x = block(x)
        rows.append(f"{block.__class__.__name__} output shape: {list(x.shape)}")
    return rows


def test_the_command_prints_the_seeds_rows(fashion_vgg: Command, tmp_path: Path) -> None:
    done = fashion_vgg("describe", root=tmp_path)
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.partition("\n\n")[0].splitlines()
    *rows, total = lines
    assert header.split() == FIGURES
    torch.manual_seed(0)
    expected = seeds_rows(d2l.vgg(d2l.VGG11))
    assert [" ".join(row.split("]")[0].split()) + "]" for row in rows] == expected
    assert total.split()[:3] == ["in", "all", "128,806,154"]
    assert list(tmp_path.iterdir()) == []


def test_layer_by_layer_with_the_counts_of_the_formulas(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "model=vgg11_narrow", "image_size=96", "layers=true")
    assert done.returncode == 0, done.stderr
    rows = [line.partition("]")[0].split() + line.partition("]")[2].split() for line in done.stdout.splitlines()]
    # A convolution's parameters are 9 in out + out, and its multiply-adds 9 in out H W.
    assert [rows[1][0], rows[1][1], *rows[1][8:12]] == [
        *("blocks.0.0", "Conv2d"),
        *(f"{9 * 16 + 16:,}", f"{9 * 16 * 96 * 96:,}", "3", "1"),
    ]
    layers = [row for row in rows if len(row) > 1]
    assert [row[0] for row in layers if row[1] == "Linear"] == ["head.1", "head.4", "head.7"]
    assert len([row for row in layers if row[1] == "Conv2d"]) == 8


def test_the_papers_column_d_has_its_parameters(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "model=vgg16", "image_size=224", "in_channels=3", "num_classes=1000")
    assert done.returncode == 0, done.stderr
    assert "138,357,544" in done.stdout


def test_several_networks_side_by_side_and_drawn(fashion_vgg: Command, tmp_path: Path) -> None:
    networks = "kernels/three_3x3,kernels/one_7x7"
    done = fashion_vgg("describe", "-m", f"experiment={networks}", "picture=stacks.svg", root=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    header, *rows = [line.split() for line in done.stdout.splitlines()]
    assert header == networks.split(",")
    convolutions = [row for row in rows if "blocks.1" in row]
    assert convolutions[1][-2:] == [f"{count * 32**2 * 14**2:,}" for count in (27, 49)]
    assert convolutions[2][-2:] == ["18", "18"]  # what the two see
    assert [file.name for file in tmp_path.iterdir()] == ["stacks.svg"]
    assert "svg" in ElementTree.parse(tmp_path / "stacks.svg").getroot().tag  # noqa: S314


def test_the_whole_as_json_with_the_memory_measured_beside_the_estimate(fashion_vgg: Command) -> None:
    done = fashion_vgg(
        "describe", "model=vgg11_narrow", "image_size=64", "batch_size=32", "measure=true", "format=json"
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["parameters"] == sum(layer["parameters"] for layer in content["layers"])
    assert content["layers"][0]["output_shape"] == [1, 16, 64, 64]
    step = content["step_bytes"]
    assert step["weights"] == 4 * content["parameters"]
    # A process needs more than its tensors, and the tensors themselves are known to the byte.
    assert step["peak"] < step["measured"] < 2 * step["peak"] + 200_000_000


def test_markdown_is_a_pipe_table_with_the_parts_in_their_order(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "-m", "model=alexnet,vgg11", "format=markdown")
    assert done.returncode == 0, done.stderr
    header, _, *rows = [line.split(" | ") for line in done.stdout.splitlines()]
    assert header[2:] == ["alexnet", "vgg11 |"]
    assert [row[1] for row in rows[:7]] == [*(f"blocks.{number}" for number in range(5)), "head", "in all"]
    assert rows[0][3] == "640 |"


@pytest.mark.parametrize(
    "override",
    [
        *("image_size=100", "image_size=-1", "model=vgg12", "layers=maybe", "imagesize=64", "format=xml"),
        *("picture=vgg.bmp", "picture=.png", "picture=/", "batch_size=0", "model.conv_arch=[[[2],64]]"),
        *("model.in_channels=3", "batch_size=1000000000000", "optimizer._target_=torch.optim.Adamw"),
    ],
)
def test_a_mistake_is_told_in_a_line(fashion_vgg: Command, override: str) -> None:
    done = fashion_vgg("describe", override)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert override.split("=")[0] in done.stderr


def test_a_mistake_beside_others_is_told_with_its_overrides(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "-m", "image_size=96,100,64", "format=json")
    assert done.returncode == 2
    assert [network["size"] for network in json.loads(done.stdout)] == [[1, 96, 96], [1, 64, 64]]
    job, mistake = done.stderr.splitlines()
    assert "image_size=100" in job
    assert mistake.startswith("image_size=100 does not fit")


def test_a_batch_that_torch_refuses_is_told(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "experiment=speedrun", "batch_size=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("batch_size=1: Expected more than 1 value per channel")


def test_a_picture_in_no_folder_is_told(fashion_vgg: Command, tmp_path: Path) -> None:
    done = fashion_vgg("describe", f"picture={tmp_path}/no/vgg.png")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
