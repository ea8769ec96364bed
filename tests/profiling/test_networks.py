"""Tables of networks."""

from functools import partial

import pytest
import torch

from fashion_vgg.models import VGG
from fashion_vgg.profiling.layers import layer_costs
from fashion_vgg.profiling.memory import estimate
from fashion_vgg.profiling.network_tables import NetworkCost, side_by_side, single


def network_cost(net: VGG, size: int, name: str = "net") -> NetworkCost:
    costs = layer_costs(net, (1, size, size), batch_size=4)
    return NetworkCost(name, (1, size, size), 4, costs, estimate(net, costs, partial(torch.optim.SGD, lr=0.01)))


@pytest.mark.parametrize("by_layer", [False, True])
def test_columns_line_up(by_layer: bool) -> None:
    network = network_cost(VGG([(1, 4), (2, 8)], image_size=8, hidden=16), 8)
    assert len({len(line) for line in single(network, by_layer).text().splitlines()}) == 1


def test_networks_side_by_side_have_their_own_numbers() -> None:
    wide, deep = VGG([([5], 8)], image_size=28, head="light"), VGG([([3, 3], 8), (1, 8)], image_size=28, head="light")
    table = side_by_side([network_cost(wide, 28, "wide"), network_cost(deep, 28, "deep")])
    assert table.header == ["", "", "wide", "deep"]
    cells = {tuple(row[:2]): row[2:] for row in table.rows}
    assert cells["parameters", "blocks.0"] == ["208", "664"]  # 25 8 + 8, and 9 8 + 8 + 9 8 8 + 8
    assert cells["", "blocks.1"][0] == ""
    totals = [row[2:] for row in table.rows if row[1] == "total"]
    assert totals[0] == [f"{sum(p.numel() for p in net.parameters()):,}" for net in (wide, deep)]
