"""How a training reports a DataLoader worker that died; tests/faults kills real ones."""

import socket
from collections.abc import Iterator
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fashion_vgg.errors import ProcessError
from fashion_vgg.training.memory_errors import friendly_errors
from tests.helpers.training import small_classifier, small_datamodule


class CutOff:
    """A batch whose reader connects to a socket that no process listens to, as for a tensor of a killed process."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Client, (self.address,)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "socket"))
        yield str(tmp_path / "socket")


def test_a_dataloader_worker_that_dies_while_it_passes_a_batch_on_is_reported(data_root: Path, address: str) -> None:
    images = TensorDataset(torch.zeros(1))
    loader: DataLoader[Any] = DataLoader(images, num_workers=1, collate_fn=lambda _: CutOff(address))
    with (
        pytest.raises(ProcessError, match=r"^DataLoader .* \(data\.num_workers=1\)\."),
        friendly_errors(L.Trainer(logger=False), small_classifier(), small_datamodule(data_root, num_workers=1)),
    ):
        next(iter(loader))


def test_another_connection_is_no_dataloader_worker(data_root: Path, address: str) -> None:
    with (
        pytest.raises(ConnectionRefusedError),
        friendly_errors(L.Trainer(logger=False), small_classifier(), small_datamodule(data_root, num_workers=1)),
    ):
        Client(address)
