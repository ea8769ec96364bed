import pytest
import torch
from torch import nn

from fashion_vgg import seed
from fashion_vgg.describe import describe, table
from fashion_vgg.vgg import VGG
from tests.conftest import Command


def seeds_rows(net: nn.Sequential) -> list[str]:
    """What the seed's loop prints, less the white space."""
    x, rows = torch.randn(size=(1, 1, 224, 224)), []
    for block in net:
        x = block(x)
        rows.append(f"{block.__class__.__name__} output shape: {list(x.shape)}")
    return rows


def test_the_command_prints_the_seeds_rows(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe")
    assert done.returncode == 0, done.stderr
    header, *rows, total = done.stdout.splitlines()
    assert header.split() == ["parameters", "multiply-adds"]
    torch.manual_seed(0)
    expected = seeds_rows(seed.vgg(seed.VGG11))
    assert [" ".join(row.split()[:-2]) for row in rows] == expected
    assert total.split()[:3] == ["in", "all", "128,806,154"]


def test_layer_by_layer_with_the_counts_of_the_formulas(fashion_vgg: Command) -> None:
    done = fashion_vgg("describe", "model=vgg11_narrow", "image_size=96", "layers=true")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    # A convolution's parameters are 9 in out + out, and its multiply-adds 9 in out H W.
    assert rows[1][:2] + rows[1][-2:] == ["blocks.0.0", "Conv2d", f"{9 * 16 + 16:,}", f"{9 * 16 * 96 * 96:,}"]
    assert [row[0] for row in rows[1:-1] if row[1] == "Linear"] == ["head.1", "head.4", "head.7"]
    assert len([row for row in rows if row[1:2] == ["Conv2d"]]) == 8


def test_totals_are_the_seeds() -> None:
    with torch.device("meta"):
        net = VGG(seed.VGG11, ratio=4)
    rows = describe(net, (1, 1, 224, 224), by_layer=True)
    assert sum(row.parameters for row in rows) == 43_093_322
    # About 512 million, counted by hand from the formulas.
    maps = [(1, 16, 224), (16, 32, 112), (32, 64, 56), (64, 64, 56), (64, 128, 28), (128, 128, 28), (128, 128, 14)]
    convolutions = sum(9 * i * o * side * side for i, o, side in [*maps, (128, 128, 14)])
    dense = 128 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 10
    assert sum(row.multiply_adds for row in rows) == convolutions + dense
    assert sum(row.multiply_adds for row in describe(net, (1, 1, 224, 224))) == convolutions + dense


def test_the_columns_line_up() -> None:
    with torch.device("meta"):
        net = VGG([(1, 4), (2, 8)], image_size=8, hidden=16)
    lines = table(describe(net, (1, 1, 8, 8), by_layer=True), by_layer=True).splitlines()
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("override", ["image_size=100", "image_size=-1", "model=vgg12", "layers=maybe", "imagesize=64"])
def test_a_mistake_is_told_in_a_line(fashion_vgg: Command, override: str) -> None:
    done = fashion_vgg("describe", override)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert override.split("=")[0] in done.stderr
