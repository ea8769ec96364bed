"""Initial weights: torchvision's, another run's, and files that are refused."""

import copy
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import models

from fashion_vgg.checkpoints.weights import initialize
from fashion_vgg.errors import UserError
from fashion_vgg.models import VGG
from tests.conftest import Command
from tests.helpers import only, weights

ARCH = [(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes it: random weights of its vgg11, for colour images and a thousand classes."""
    torch.manual_seed(6)
    path = tmp_path_factory.mktemp("hub") / "vgg11.pth"
    torch.save(models.vgg11().state_dict(), path)
    name = f"vgg11-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    return path.rename(path.with_name(name))


@pytest.fixture(scope="module")
def fine_tuning(data_root: Path, published: Path) -> list[str]:
    """Two steps on small images, with a learning rate that leaves the weights as they are."""
    few = ["image_size=32", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.max_epochs=1"]
    still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0"]
    return ["experiment=finetune", f"init_weights={published}", f"data.root={data_root}", "trainer=cpu", *few, *still]


def same(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=0, atol=1e-20)  # that learning rate still moves a bias of zero


@pytest.mark.thorough
@pytest.mark.parametrize("in_channels", [1, 3])
def test_fine_tuning_starts_from_torchvisions_weights(
    fashion_vgg: Command, fine_tuning: list[str], published: Path, tmp_path: Path, in_channels: int
) -> None:
    done = fashion_vgg("train", *fine_tuning, f"in_channels={in_channels}", root=tmp_path)
    assert done.returncode == 0, done.stderr
    # Torchvision's first head layer takes 7 x 7 positions, this one a single position.
    assert f"Initial weights from {published}; initialized at random: head.1, head.4, head.7\n" in done.stdout
    run = only(tmp_path / "outputs/train", "*/*")
    theirs = torch.load(published, weights_only=True)
    trained = VGG(ARCH, in_channels=in_channels, image_size=32)
    trained.load_state_dict(weights(run))
    kept = {name: value for name, value in trained.torchvision_state_dict().items() if name.startswith("features")}
    first = theirs["features.0.weight"]
    assert same(kept.pop("features.0.weight"), first if in_channels == 3 else first.sum(dim=1, keepdim=True))
    assert len(kept) == 15
    assert all(same(value, theirs[name]) for name, value in kept.items())
    if in_channels == 1:
        return
    # The run now has its own weights: it is resumed and tested without the initial file.
    hidden = published.rename(published.with_suffix(".hidden"))
    try:
        for command in (
            ["test", f"weights={run}", "trainer.limit_test_batches=1"],
            ["train", f"resume={run}", "trainer.max_epochs=2"],
        ):
            done = fashion_vgg(*command, root=tmp_path)
            assert done.returncode == 0, done.stderr
    finally:
        hidden.rename(published)


@pytest.mark.long
def test_a_run_starts_from_the_blocks_of_another_with_another_head(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    assert fashion_vgg("train", *tiny, root=tmp_path / "first").returncode == 0
    first = only(tmp_path / "first" / "outputs/train", "*/*")
    still = ["optimizer.lr=1e-30", "model.head=dense", "model.hidden=8", f"init_weights={first}"]
    done = fashion_vgg("train", *tiny, *still, "image_size=32", root=tmp_path / "second")
    assert done.returncode == 0, done.stderr
    assert "initialized at random: head.1, head.4, head.7" in done.stdout
    before, after = weights(first), weights(only(tmp_path / "second" / "outputs/train", "*/*"))
    # The training has moved the running statistics.
    blocks = [name for name in before if name.startswith("blocks") and "running" not in name and "num" not in name]
    assert len(blocks) == 16
    assert all(torch.equal(before[name], after[name]) for name in blocks)


def initialize_on_meta(path: Path, **settings: object) -> None:
    with torch.device("meta"):
        net = VGG(ARCH, **settings)  # type: ignore[arg-type]
    initialize(net, path)


@pytest.mark.thorough
def test_of_the_head_all_but_the_last_layer_is_loaded(published: Path) -> None:
    net, theirs = VGG(ARCH), models.vgg11()
    theirs.load_state_dict(torch.load(published, weights_only=True))
    random = copy.deepcopy(net.head[-1].state_dict())
    initialize(net, published)
    assert all(torch.equal(value, random[name]) for name, value in net.head[-1].state_dict().items())
    theirs.classifier[-1] = net.head[-1]
    grey = torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        expected = theirs.eval()(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(net.eval()(grey), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.thorough
def test_weights_of_another_network_are_refused(published: Path) -> None:
    for settings, what in (
        ({"batch_norm": True}, "The weights are another network's: .*Choose the model"),
        ({"ratio": 2}, r"blocks.0.0.weight is \[64, 1, 3, 3\] in the file and \[32, 1, 3, 3\] in the network"),
        ({"in_channels": 2}, r"blocks.0.0.weight is \[64, 3, 3, 3\] in the file and \[64, 2, 3, 3\]"),
        ({"batch_norm": True, "pool_before_norm": True}, "use pool_before_norm=false"),
    ):
        with pytest.raises(UserError, match=f"(?s){what}"):
            initialize_on_meta(published, **settings)


@pytest.mark.thorough
def test_truncated_altered_and_other_files_are_refused(published: Path, tmp_path: Path) -> None:
    content = bytearray(published.read_bytes())
    content[len(content) // 2] ^= 1
    files = {
        "flipped.pth": bytes(content),
        published.name: bytes(content[:-1]),
        "empty.pth": b"",
        "text.pth": b"weights",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} (is truncated or altered|holds more than data)"):
            initialize_on_meta(tmp_path / name)
    with pytest.raises(UserError, match=r"init_weights=.*none\.pth: no such file\. .*VGG11_Weights"):
        initialize_on_meta(tmp_path / "none.pth")
    for name, state, what in (
        ("list.pth", [1], "holds no weights"),
        ("nothing.pth", {}, "holds no weights"),
        ("numbered.pth", {1: torch.zeros(1)}, "holds no weights"),
        ("nan.pth", {"features.0.weight": torch.full((64, 3, 3, 3), torch.nan)}, "is not finite"),
    ):
        torch.save(state, tmp_path / name)
        with pytest.raises(UserError, match=f"(?s){what}"):
            initialize_on_meta(tmp_path / name)


def narrow(seed: int) -> VGG:
    torch.manual_seed(seed)
    net = VGG(ARCH, image_size=32, ratio=16, hidden=8, batch_norm=True)
    for name, statistics in net.named_buffers():
        if "running" in name:
            statistics.uniform_(0.5, 1.5)
    return net


def test_batch_norm_loads_from_a_file_without_batch_counters(tmp_path: Path) -> None:
    """As torchvision published them in 2017."""
    theirs, ours = narrow(1), narrow(2)
    state = theirs.torchvision_state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) == len(state) - 8
    torch.save(old, tmp_path / "vgg11-20171123.pt")  # the name ends in a date, not a checksum
    initialize(ours, tmp_path / "vgg11-20171123.pt")
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_the_checksum_in_torchvisions_file_name_is_verified(tmp_path: Path) -> None:
    torch.save(narrow(1).torchvision_state_dict(), tmp_path / "vgg11_bn-0123abcd.pth")
    with pytest.raises(UserError, match="SHA-256 does not begin with 0123abcd, as its name says"):
        initialize(narrow(2), tmp_path / "vgg11_bn-0123abcd.pth")


def test_a_file_in_the_legacy_format_is_verified_by_its_name(tmp_path: Path) -> None:
    state, net = narrow(1).torchvision_state_dict(), narrow(2)
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    initialize(net, path)
    assert torch.equal(net.state_dict()["head.7.weight"], state["classifier.6.weight"])
    wrong = path.rename(tmp_path / "vgg11-0123abcd.pth")
    with pytest.raises(UserError, match="SHA-256 does not begin with 0123abcd, as its name says"):
        initialize(net, wrong)
