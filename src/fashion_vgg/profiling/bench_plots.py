"""What a benchmark found, as a picture."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BARS = ("tab:gray", "tab:blue", "tab:orange")


def save(content: dict[str, Any], path: Path) -> None:
    """Bars of the loops' images a second, or curves of growth."""
    figure = compare(content) if "ratios" in content else growth(content)
    figure.savefig(path, dpi=150)


def compare(content: dict[str, Any]) -> Figure:
    """A bar for each loop, with its spread, and a line where its limit is."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.add_subplot()
    labels = []
    for place, (loop, color) in enumerate(zip(content["loops"], BARS, strict=True)):
        speed, limit = loop["images_per_sec"], loop["limit_images_per_sec"]
        axes.barh(place, speed, xerr=loop["images_per_sec_spread"], color=color, height=0.6, capsize=3)
        axes.vlines(limit, place - 0.4, place + 0.4, colors="tab:red", label="" if place else "the hardware's limit")
        labels.append(f"{loop['name']}\n{speed:,.0f} images/s, {loop['share_of_limit']:.0%} of the limit")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set(xlabel=f"images a second on {content['device_name']}", xlim=(0, None))
    figure.legend(loc="outside upper right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def growth(content: dict[str, Any]) -> Figure:
    """Time and memory of a step, by batch size and by image size."""
    by_key: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for loop in content["loops"]:
        key, value = loop["name"].split("=")
        by_key.setdefault(key, []).append((int(value), loop))
    figure = Figure(figsize=(8, 5), layout="constrained")
    panels = figure.subplots(2, len(by_key), sharex="col", sharey="row", squeeze=False)
    for (time, memory), (key, points) in zip(panels.T, by_key.items(), strict=True):
        values = [value for value, _ in points]
        spans = [[s * 1000 for s in loop["step_seconds"]] for _, loop in points]
        limits = [loop["batch_size"] / loop["limit_images_per_sec"] * 1000 for _, loop in points]
        time.fill_between(values, [min(s) for s in spans], [max(s) for s in spans], alpha=0.3)
        time.plot(values, [sorted(s)[len(s) // 2] for s in spans], marker="o", label="measured")
        time.plot(values, limits, color="tab:red", linestyle="--", label="the hardware's limit")
        where = "device_bytes" if points[0][1]["device_bytes"] else "host_bytes"
        memory.plot(values, [loop[where] / 1e9 for _, loop in points], marker="o", color="tab:green")
        memory.set_xlabel(key.replace("_", " "))
        _from_zero(time, memory)
    panels[0, 0].set_ylabel("milliseconds a step")
    panels[0, 0].legend(frameon=False)
    panels[1, 0].set_ylabel("peak memory, GB")
    return figure


def _from_zero(*panels: Axes) -> None:
    for axes in panels:
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
