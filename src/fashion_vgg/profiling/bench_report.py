"""The results of a benchmark as text and as a plot."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from math import nan
from statistics import median
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from omegaconf import DictConfig

from fashion_vgg.runs.table import Table

COLORS = ("tab:gray", "tab:blue", "tab:orange", "tab:green")
"""Of the loops."""
LIMIT_COLOR = "tab:red"


def title(cfg: DictConfig, environment: dict[str, Any]) -> str:
    """The configured network, the device and the versions."""
    network = " ".join([cfg.model._target_.rpartition(".")[2], str(cfg.model.get("conv_arch", ""))]).strip()
    compiled = f", compiled ({cfg.compile})" if cfg.compile else ""
    threads = f", {environment['threads']} threads" if environment["device"] == "cpu" else ""
    versions = environment["versions"]
    return (
        f"{network} at {cfg.image_size} px, batch size {cfg.batch_size}, {cfg.trainer.precision}{compiled}\n"
        f"{environment['device_name']}{threads}, torch {versions['torch']}, lightning {versions['lightning']}\n"
    )


def report(content: dict[str, Any]) -> str:
    """A row per loop, then the hardware limit and, if the loops were compared, what the comparison shows."""
    ceilings = (
        f"Hardware limit in {dtype}: {rates['flop_per_sec'] / 1e9:,.0f} GFLOP/s in a matrix product, "
        f"{rates['bytes_per_sec'] / 1e9:,.1f} GB/s in a copy."
        for dtype, rates in content["ceilings"].items()
    )
    comparison = _comparison(content) if "ratios" in content else ()
    return "\n".join([_loops(content).text(), "", *ceilings, *_above_limit(content["loops"]), *comparison])


def _loops(content: dict[str, Any]) -> Table:
    loops = content["loops"]
    columns = {
        "": [loop["name"] for loop in loops],
        "images/s": [f"{loop['images_per_sec']:,.1f}" for loop in loops],
        " ": [f"± {loop['images_per_sec_spread']:,.1f}" for loop in loops],
        "ms/step": [f"{loop['batch_size'] / loop['images_per_sec'] * 1000:,.2f}" for loop in loops],
    }
    if "ratios" in content:
        columns["over the book's"] = [f"{x['images_per_sec'] / loops[0]['images_per_sec']:.2f}" for x in loops]
    for title, key in (("host GB", "host_bytes"), ("GPU GB", "device_bytes")):
        if any(loop[key] for loop in loops):
            columns[title] = [f"{loop[key] / 1e9:.2f}" for loop in loops]
    columns["% of limit"] = [f"{share * 100:.0f}" if (share := loop["share_of_limit"]) else "—" for loop in loops]
    return Table(list(columns), list(zip(*columns.values(), strict=True)))


def _above_limit(loops: list[dict[str, Any]]) -> Iterator[str]:
    """Which loops have no share of the limit, and why."""
    names = [loop["name"] for loop in loops if not loop["share_of_limit"]]
    if names:
        yield (
            "The machine was busy while the limit was measured: the share is above 100 % and not meaningful for "
            f"{', '.join(names)}."
        )


def _comparison(content: dict[str, Any]) -> Iterator[str]:
    keys = ("gflop_per_image", "min_mb_per_image", "dtype", "limit_images_per_sec")
    too_low = {loop["dtype"] for loop in content["loops"] if not loop["share_of_limit"]}
    limited = [loop for loop in content["loops"] if loop["dtype"] not in too_low]
    for gflop, megabytes, dtype, limit in dict.fromkeys(tuple(loop[key] for key in keys) for loop in limited):
        yield f"At least {gflop:.2f} GFLOP and {megabytes:.1f} MB per image in {dtype}: at most {limit:,.1f} images/s."
    ratios, cost, data = content["ratios"], content["checkpoint_cost"], content["data"]
    slower = 1 / ratios["trainer_over_bare"] - 1
    yield (
        f"Trainer.fit takes {abs(slower):.1%} {'more' if slower > 0 else 'less'} time per step than the bare loop, and "
        f"trains {ratios['trainer_over_book']:.2f} times the book's images/s (medians over rounds)."
    )
    yield (
        f"Being resumable takes {cost['share']:.2%} of the time: {cost['seconds_per_step'] * 1000:.2f} ms per step, "
        f"and {cost['checkpoint_seconds']:.2f} s for a checkpoint of {cost['checkpoint_bytes'] / 1e6:,.1f} MB every "
        f"{cost['every_minutes']:g} minutes."
    )
    ours, book = data["seconds"] * 1000, data["book_seconds"] * 1000
    yield (
        f"Resizing {data['batch_size']} images to {data['image_size']} px on one core takes {ours:.1f} ms, with the "
        f"book's transforms {book:.1f} ms ({data['times_faster']:.1f} times). "
        f"The images are {'bit-equal' if data['bit_equal'] else 'NOT EQUAL'}."
    )
    megabytes = data["host_bytes"] / 1e6
    yield f"Reading the data set and resizing ten batches takes {megabytes:.0f} MB of memory at the peak."


def plot(content: dict[str, Any]) -> Figure:
    """Bars if the loops were compared, else curves over batch and image size."""
    with rc_context({"axes.spines.right": False, "axes.spines.top": False, "legend.frameon": False}):
        return _bars(content["loops"], content["device_name"]) if "ratios" in content else _curves(content["loops"])


def _bars(loops: list[dict[str, Any]], device: str) -> Figure:
    """A panel for each image size and batch size, with a bar of images/s for each loop."""
    panels: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for loop, color in zip(loops, COLORS, strict=False):
        panels[f"{loop['image_size']} px, batch size {loop['batch_size']}"][color] = loop
    figure = Figure(figsize=(7, 0.5 * len(loops) + 0.7 * len(panels)), layout="constrained")
    column = figure.subplots(len(panels), height_ratios=[len(bars) for bars in panels.values()], squeeze=False)[:, 0]
    for axes, (title, bars) in zip(column, panels.items(), strict=True):
        axes.set_title(title, loc="left", fontsize="medium")
        for place, (color, loop) in enumerate(bars.items()):
            _draw_bar(axes, place, loop, color)
        axes.set_yticks(range(len(bars)), [_bar_label(loop) for loop in bars.values()])
        axes.invert_yaxis()
        axes.set_xlim(0, None)
    column[-1].set_xlabel(f"images/s on {device}")
    figure.legend(handles=[Line2D([], [], color=LIMIT_COLOR, label="hardware limit")], loc="outside upper right")
    return figure


def _draw_bar(axes: Axes, place: int, loop: dict[str, Any], color: str) -> None:
    """A loop's images/s, with their spread, and a line at the hardware limit if the loop is not above it."""
    axes.barh(place, loop["images_per_sec"], xerr=loop["images_per_sec_spread"], color=color, height=0.6, capsize=3)
    if loop["share_of_limit"]:
        axes.vlines(loop["limit_images_per_sec"], place - 0.4, place + 0.4, colors=LIMIT_COLOR, label="limit")


def _bar_label(loop: dict[str, Any]) -> str:
    share = f", {loop['share_of_limit']:.0%} of the limit" if loop["share_of_limit"] else ""
    return f"{loop['name']}\n{loop['images_per_sec']:,.0f} images/s{share}"


def _curves(loops: list[dict[str, Any]]) -> Figure:
    """Time and peak memory of a step, over batch size and over image size."""
    curves = {key: list(group) for key, group in groupby(loops, key=lambda loop: loop["name"].partition("=")[0])}
    figure = Figure(figsize=(8, 5), layout="constrained")
    panels = figure.subplots(2, len(curves), sharex="col", sharey="row", squeeze=False)
    for (time, memory), (key, points) in zip(panels.T, curves.items(), strict=True):
        sizes = [int(loop["name"].partition("=")[2]) for loop in points]
        steps = [[1000 * seconds for seconds in loop["step_seconds"]] for loop in points]
        limits = [1000 * x["batch_size"] / x["limit_images_per_sec"] if x["share_of_limit"] else nan for x in points]
        time.fill_between(sizes, [min(step) for step in steps], [max(step) for step in steps], alpha=0.3)
        time.plot(sizes, [median(step) for step in steps], marker="o", label="measured")
        time.plot(sizes, limits, color=LIMIT_COLOR, linestyle="--", label="hardware limit")
        gigabytes = [(loop["device_bytes"] or loop["host_bytes"]) / 1e9 for loop in points]
        memory.plot(sizes, gigabytes, marker="o", color="tab:green")
        memory.set_xlabel({"image_size": "image size, px"}.get(key, key.replace("_", " ")))
    panels[0, 0].set_ylabel("ms/step")
    panels[0, 0].legend()
    panels[1, 0].set_ylabel("peak memory, GB")
    for axes in panels.flat:
        axes.plot(0, 0)  # invisible; the margin above the data becomes a share of the whole range
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
    return figure
