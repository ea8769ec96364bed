# %% [markdown]
# # VGG on Fashion-MNIST, cell by cell
#
# A companion to section 8.2, [Networks Using Blocks (VGG)](https://d2l.ai/chapter_convolutional-modern/vgg.html), of
# *Dive into Deep Learning* (d2l.ai), called "the book" below: the network, the data, a short training, predictions, and
# the exercises of both editions with their answers.
#
# Open this file as a notebook, in VS Code, or in JupyterLab with jupytext; or run `python scripts/chapter.py`, which
# prints the tables and writes the pictures to `outputs/chapter/`. All cells together take less than a minute on two CPU
# cores. The first run downloads the data set.

# %%
import os
import sys
import time
from functools import partial
from pathlib import Path

import lightning as L
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import nn

import fashion_vgg
from fashion_vgg import VGG, FashionMNISTDataModule, ImageClassifier
from fashion_vgg.data.fashion_mnist import CLASS_NAMES
from fashion_vgg.models import AlexNet
from fashion_vgg.profiling import network_plot
from fashion_vgg.profiling.layers import by_block, layer_costs
from fashion_vgg.profiling.memory import estimate
from fashion_vgg.profiling.network_tables import NetworkCost
from fashion_vgg.runs.table import Table
from fashion_vgg.training.build import configure_lightning_logging

EPOCHS = int(os.environ.get("EPOCHS", "5"))
STEPS = int(os.environ.get("STEPS", "60"))  # per epoch; a whole epoch of 32 images per step has 1,875
DATA = os.environ.get("FASHION_VGG_DATA", "~/.cache/fashion-vgg")

NOTEBOOK = "ipykernel" in sys.modules
if NOTEBOOK:
    from IPython.display import display
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("png")
configure_lightning_logging()


def show(figure, name):
    """Display a figure below the cell; a script writes it to a file."""
    if NOTEBOOK:
        display(figure)
    else:
        path = Path("outputs", "chapter", f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        print(f"{path} written")


# %% [markdown]
# ## The network
#
# A VGG block is one or more 3x3 convolutions with padding 1, each followed by a ReLU, and then a 2x2 max pooling. The
# convolutions keep height and width, the pooling halves them. VGG-11 has five blocks, which reduce an image of 224 px
# to maps of 7 px, and three dense layers.

# %%
VGG11 = [(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)]  # convolutions and output channels of each block

with torch.device("meta"):  # tensors with a shape but no values: nothing is computed or stored
    net = VGG(VGG11)
    maps = torch.empty(1, 1, 224, 224)

for layer in (*net.blocks, *net.head):
    maps = layer(maps)
    print(f"{type(layer).__name__:<12}{list(maps.shape)}")

# %% [markdown]
# ## Where the parameters are, and where the work is
#
# The book trains a narrow VGG-11, with a quarter of the channels (`ratio=4`).


# %%
def cost_of(name, network, *arguments, in_channels=1, image_size=224, **options):
    """Count parameters, multiply-adds and memory of a network, layer by layer, for a batch of 128 images."""
    size = (in_channels, image_size, image_size)
    with torch.device("meta"):
        net = network(*arguments, in_channels=in_channels, image_size=image_size, **options)
    layers = layer_costs(net, size, batch_size=128)
    return NetworkCost(name, size, 128, layers, estimate(net, layers, partial(torch.optim.SGD, lr=0.05)))


def sums(cost, kind=""):
    """Add up parameters and multiply-adds of all layers, or of those of a kind: "Conv2d" or "Linear"."""
    layers = [layer for layer in cost.layers if kind in layer.kind]
    return sum(layer.parameters for layer in layers), sum(layer.multiply_adds for layer in layers)


narrow = cost_of("VGG-11, narrow", VGG, VGG11, ratio=4)
parts = [layer for layer in by_block(narrow.layers) if layer.parameters]
parameters, multiply_adds = sums(narrow)
names = [f"block {index}" for index in range(1, 6)] + [f"dense {index}" for index in range(1, 4)]
rows = [
    [name, f"{part.parameters:,}", f"{part.parameters / parameters:.1%}", f"{part.multiply_adds:,}"]
    for name, part in zip(names, parts, strict=True)
]
rows.append(["total", f"{parameters:,}", "", f"{multiply_adds:,}"])
print(Table(["", "parameters", "share", "multiply-adds"], rows).text())

# %%
show(network_plot.draw([narrow]), "network")

# %%
figure = Figure(figsize=(8, 3.2), layout="constrained")
axes = figure.add_subplot()
places = range(len(names))
axes.bar([place - 0.2 for place in places], [part.parameters / parameters for part in parts], 0.4, label="parameters")
work = [part.multiply_adds / multiply_adds for part in parts]
axes.bar([place + 0.2 for place in places], work, 0.4, label="multiply-adds")
axes.set_xticks(places, names)
axes.set(ylabel="share of the network")
axes.yaxis.set_major_formatter(PercentFormatter(1))
axes.legend()
show(figure, "shares")

# %% [markdown]
# The dense layers have 98.7 % of the parameters, the convolutions 92 % of the multiply-adds. A weight of a dense layer
# is used once per image; a weight of a convolution once for each position of the map, which is 50,176 times in the
# first block.

# %% [markdown]
# ## The data
#
# 60,000 training images and 10,000 test images of 28x28 pixels in ten classes, light on black; drawn here dark on
# white. The data module resizes each batch to `image_size`: here to 96 px, since 224 px take five times the work.

# %%
data = FashionMNISTDataModule(DATA, image_size=96, batch_size=32)
data.prepare_data()
data.setup("fit")


def image_grid(images, titles, colors=None):
    """Draw images, uint8 (N, 28, 28), in rows of eight."""
    figure = Figure(figsize=(10, 1.6 * len(images) / 8), layout="constrained")
    tiles = figure.subplots(len(images) // 8, 8).flat
    for axes, image, title, color in zip(tiles, images, titles, colors or ["black"] * len(images), strict=True):
        axes.imshow(255 - image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9, color=color)
        axes.axis("off")
    return figure


images, labels = data.train_set[:24]
show(image_grid(images, [CLASS_NAMES[label] for label in labels]), "images")

# %% [markdown]
# ## Training
#
# The book trains the narrow VGG-11 at 224 px for ten epochs, which takes hours on a CPU. A network that learns within a
# minute differs in five ways: images of 96 px, 32 of them per step, an eighth of the channels, 512 instead of 4096
# units in the dense layers, and batch norm after each convolution.
#
# Without batch norm and at the book's learning rate, the loss stays near ln 10 = 2.303, that of guessing, for most of
# these steps: try `batch_norm=False`. More `EPOCHS` and `STEPS`, in the first cell, give a higher accuracy.


# %%
class LiveCurves(L.Callback):
    """Redraws the curves every 20 steps, in a notebook, and prints the accuracies of every epoch."""

    def on_train_start(self, trainer, pl_module):
        self.losses, self.accuracies = [], {"train": [], "test": []}
        self.curves = display(self.draw(), display_id=True) if NOTEBOOK else None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        if self.curves and len(self.losses) % 20 == 0:
            self.curves.update(self.draw())

    def on_train_epoch_end(self, trainer, pl_module):
        for split, values in self.accuracies.items():
            values.append(pl_module.metrics_of(split).compute()[f"{split}/acc"].item())
        latest = ", ".join(f"{split} accuracy {values[-1]:.3f}" for split, values in self.accuracies.items())
        print(f"epoch {trainer.current_epoch + 1}/{EPOCHS}: {latest}")
        if self.curves:
            self.curves.update(self.draw())

    def draw(self):
        """Plot the loss of each step, and the accuracies of each epoch."""
        figure = Figure(figsize=(9, 3), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([step / STEPS for step in range(1, len(self.losses) + 1)], self.losses, linewidth=1)
        for (split, values), style in zip(self.accuracies.items(), ("--", "-."), strict=True):
            right.plot(range(1, len(values) + 1), values, style, marker=".", label=split)
        left.set(xlabel="epoch", ylabel="train loss", xlim=(0, EPOCHS), ylim=(0, 3))
        right.set(xlabel="epoch", ylabel="accuracy", xlim=(0, EPOCHS + 0.1), ylim=(0, 1))
        right.legend(loc="lower right")
        for axes in (left, right):
            axes.grid(alpha=0.4)
        return figure


# %%
L.seed_everything(0, verbose=False)
small = VGG(VGG11, image_size=96, ratio=8, hidden=512, batch_norm=True)
trainer = L.Trainer(
    devices=1,
    max_epochs=EPOCHS,
    limit_train_batches=STEPS,
    limit_val_batches=32,  # about 1,000 test images after each epoch
    callbacks=[LiveCurves()],
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
    enable_progress_bar=False,
)
trainer.fit(ImageClassifier(small, optimizer=partial(torch.optim.SGD, lr=0.05)), data)

# %% [markdown]
# The train accuracy is often below the test accuracy: dropout sets half of the hidden units to zero during training
# only, and the train accuracy is a mean over the epoch, in which the network still improves.
#
# ## Predictions
#
# Test images with the predicted class; below it, in red, the true class if the network is wrong.

# %%
small.eval()
images, labels = data.test_set[:1000]
with torch.no_grad():
    predicted = torch.cat([small(data.preprocess(batch)).argmax(dim=1) for batch in images.split(100)])
print(f"accuracy on {len(labels):,} test images: {(predicted == labels).float().mean():.3f}")

pairs = list(zip(predicted[:32].tolist(), labels[:32].tolist(), strict=True))
titles = [CLASS_NAMES[a] if a == b else f"{CLASS_NAMES[a]}\n({CLASS_NAMES[b]})" for a, b in pairs]
show(image_grid(images[:32], titles, ["black" if a == b else "tab:red" for a, b in pairs]), "predictions")

# %% [markdown]
# # Exercises
#
# Those of the current and of an earlier edition of the book, reworded.
#
# ## Eleven layers, eight rows
#
# *The book's table of output shapes shows only eight of the eleven layers with weights. Where are the other three?*

# %%
in_blocks = [sum(isinstance(layer, nn.Conv2d) for layer in block) for block in net.blocks]
dense = sum(isinstance(layer, nn.Linear) for layer in net.head)
print(f"convolutions in the blocks: {in_blocks}, dense layers: {dense}, together {sum(in_blocks) + dense}")

# %% [markdown]
# The table has one row for each block, and five blocks and three dense layers make eight. The last three blocks have
# two convolutions each, so three convolutions have no row of their own. (Flatten, ReLU and Dropout have rows, but no
# weights.)
#
# ## VGG and AlexNet
#
# *VGG is slower than AlexNet and needs more memory. Why? Compare the number of parameters, and the operations of the
# convolutions with those of the dense layers.*


# %%
@torch.no_grad()
def forward_seconds(net, images):
    """Time a forward pass; the first one, which allocates memory, is not counted."""
    net.eval()(images)
    start = time.perf_counter()
    net(images)
    return time.perf_counter() - start


rows = []
for name, network, *arguments in (("AlexNet", AlexNet), ("VGG-11", VGG, VGG11)):
    cost = cost_of(name, network, *arguments)
    (conv_parameters, conv_work), (dense_parameters, dense_work) = sums(cost, "Conv2d"), sums(cost, "Linear")
    numbers = (conv_parameters + dense_parameters, dense_parameters, conv_work, dense_work)
    saved, seconds = cost.step.activations, forward_seconds(network(*arguments), torch.rand(2, 1, 224, 224))
    rows.append([name, *(f"{number / 1e6:,.0f}" for number in numbers), f"{saved / 1e9:.2f}", f"{1000 * seconds:,.0f}"])
header = ["", "parameters", "dense", "conv. work", "dense work", "saved GB", "forward ms"]
print(Table(header, rows).text())

# %% [markdown]
# Parameters and work (multiply-adds per image) in millions; saved: activations of 128 images that the backward pass
# needs; forward: two images on this machine.
#
# VGG-11 has 2.8 times the parameters, 8 times the work and 12 times the saved activations. AlexNet's first convolution
# has a stride of 4, so that none of its maps is larger than 54x54, while VGG's first block works on 224x224: it causes
# 47 % of the saved activations, but 0.4 % of the work. The third and fourth block have 74 % of the work: 256 and 512
# channels on maps of 56x56 and 28x28, where AlexNet has 384 channels on 12x12. The dense layers have most of the
# parameters of both networks, but in VGG-11 less than 2 % of the work.
#
# [Measured](../outputs/results/README.md#memory-and-time-of-vgg-and-alexnet) with 128 images: VGG-11 trains at a
# seventh of AlexNet's speed and needs nine times the memory.
#
# *How could the dense layers cost less?*

# %%
heads = {
    "as in the paper": {},
    "hidden=512": {"hidden": 512},
    "image_size=96": {"image_size": 96},
    'head="light"': {"head": "light"},
}
rows = []
for name, options in heads.items():
    cost = cost_of(name, VGG, VGG11, **options)
    rows.append([name, *(f"{number:,}" for number in sums(cost, "Linear")), f"{sums(cost)[0]:,}"])
print(Table(["VGG-11", "dense parameters", "dense multiply-adds", "all parameters"], rows).text())

# %% [markdown]
# The first dense layer has a weight for each of the 7x7x512 inputs and 4096 units. So: fewer units; a smaller map; or a
# global pooling, which leaves one value per channel, and a single dense layer (`head="light"`), as in most later
# networks. All save parameters and their memory, but hardly any time, since the work is in the convolutions; only the
# smaller images save that, too.
#
# ## 96 px instead of 224
#
# *What changes if the images are resized to 96 px?*

# %%
rows = []
for size in (224, 96):
    cost = cost_of("", VGG, VGG11, ratio=4, image_size=size)
    rows.append([str(size), *(f"{number:,}" for number in sums(cost)), f"{cost.step.peak / 1e9:.2f}"])
print(Table(["px", "parameters", "multiply-adds", "GB of a step"], rows).text())

# %% [markdown]
# A fifth of the work and a quarter of the memory (128 images, float32). The convolutions stay the same, but the first
# dense layer sees maps of 3x3 instead of 7x7, so the network has half of the parameters. In [trainings of two
# epochs](../outputs/results/README.md#images-of-96-px-instead-of-224) the narrow network was 3.6 times as fast at 96 px
# and less accurate: 0.821 instead of 0.859 on the test set.
#
# ## 56 or 84 px
#
# *Enlarging 28x28 pixels to 224x224 is wasteful. Are 56 or 84 px possible, with another architecture and without loss
# of accuracy?*
#
# First, which sizes does VGG-11 take?

# %%
for size in (28, 32, 56, 64, 84, 96, 112, 128, 224):
    try:
        with torch.device("meta"):
            VGG(VGG11, image_size=size)
        print(f"{size}: maps of {size // 32}x{size // 32} after five blocks")
    except ValueError as error:
        print(error)

# %% [markdown]
# Five poolings divide the size by 32. If it is no multiple of 32, a pooling drops the last row and column of a map
# whose side is odd, so `VGG` rejects the size. Other designs:
#
# - At 56 px, three poolings leave 7x7 (28, 14, 7). The paper's idea for the saved work is more convolutions, with their
#   ReLUs, before each pooling.
# - At 84 px, two poolings leave 21x21, too large a map for dense layers. A global pooling takes maps of any size.
# - Enlarging an image adds no information: why not 28 px? This package contains such a network, trained for one epoch.

# %%
compact = {"whitening": True, "batch_norm": True, "pool_before_norm": True, "head": "compact", "hidden": 256}
designs = [
    narrow,
    cost_of("three blocks", VGG, [(2, 32), (2, 64), (4, 128)], image_size=56, hidden=512),
    cost_of("two blocks, global pooling", VGG, [(3, 32), (4, 64)], image_size=84, head="light"),
    cost_of("the package's network", VGG, [([5], 32), (1, 64), (1, 128)], image_size=28, **compact),
]
rows = [[cost.name, str(cost.size[-1]), *(f"{number:,}" for number in sums(cost))] for cost in designs]
print(Table(["", "px", "parameters", "multiply-adds"], rows).text())

# %%
images, labels = data.test_set.tensors
predicted = fashion_vgg.load("speedrun").logits(images).argmax(dim=1)
print(f"the package's network, on all test images: accuracy {(predicted == labels).float().mean():.4f}")

# %% [markdown]
# The book publishes 0.920 for ten epochs at 224 px. So 28 px lose nothing, with batch norm and a better optimizer ([its
# recipe](../conf/experiment/speedrun.yaml)), and three epochs [reach
# 0.933](../outputs/results/README.md#what-a-point-of-accuracy-costs). The designs at 56 and 84 px were not trained: try
# them.
#
# ## VGG-16 and VGG-19
#
# *Build them from table 1 of the [paper](https://arxiv.org/abs/1409.1556).*
#
# They have 13 and 16 convolutions in five blocks, and the same three dense layers. With colour images and the 1000
# classes of ImageNet:

# %%
FAMILY = {
    "VGG-11": VGG11,
    "VGG-16": [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)],
    "VGG-19": [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)],
}
family = [cost_of(name, VGG, blocks, in_channels=3, num_classes=1000) for name, blocks in FAMILY.items()]
rows = [[cost.name, *(f"{number:,}" for number in sums(cost))] for cost in family]
print(Table(["", "parameters", "multiply-adds"], rows).text())
show(network_plot.draw(family), "family")

# %% [markdown]
# The paper's table 2 lists 133, 138 and 144 million parameters. [How well they
# train](../outputs/results/README.md#vgg-16-and-vgg-19) on Fashion-MNIST at the book's learning rate: the deeper, the
# later they start to learn, unless they have batch norm.
#
# ## Next
#
# `fashion-vgg train experiment=d2l` runs the book's training in full. The [main README](../README.md) explains the
# command, [conf/README.md](../conf/README.md#without-hydra) the classes used here.
