"""What a benchmark found, as text."""

from typing import Any

from omegaconf import DictConfig

COLUMNS = ("", "images/s", "", "ms a step", "over the seed's", "host memory", "GPU memory", "of the limit")


def title(cfg: DictConfig, environment: dict[str, Any]) -> str:
    """What is measured, and on what."""
    model = str(cfg.model.get("_target_")).rpartition(".")[2]
    compiled = f", compiled ({cfg.compile})" if cfg.compile else ""
    threads = f", {environment['threads']} threads" if environment["device"] == "cpu" else ""
    versions = environment["versions"]
    return (
        f"{model} {list(cfg.model.conv_arch)} at {cfg.image_size} px, batch {cfg.batch_size}, "
        f"{cfg.trainer.precision}{compiled}\n"
        f"{environment['device_name']}{threads}, torch {versions['torch']}, lightning {versions['lightning']}\n"
    )


def table(content: dict[str, Any]) -> str:
    """A row for each loop, then what the limit is made of, the overheads and the data's way."""
    loops = content["loops"]
    first = loops[0]["images_per_sec"] if "ratios" in content else None
    rows = [COLUMNS, *(_row(loop, first) for loop in loops)]
    used = [column for column in range(len(COLUMNS)) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    lines = [
        "  ".join(f"{row[c]:<{widths[c]}}" if c in (0, 2) else f"{row[c]:>{widths[c]}}" for c in used).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_notes(content)])


def _row(loop: dict[str, Any], seeds_images_per_sec: float | None) -> tuple[str, ...]:
    speed = loop["images_per_sec"]
    return (
        loop["name"],
        f"{speed:,.1f}",
        f"± {loop['images_per_sec_spread']:,.1f}",
        f"{loop['batch_size'] / speed * 1000:,.2f}",
        f"{speed / seeds_images_per_sec:.2f}" if seeds_images_per_sec else "",
        f"{loop['host_bytes'] / 1e9:.2f} GB" if loop["host_bytes"] else "",
        f"{loop['device_bytes'] / 1e9:.2f} GB" if loop["device_bytes"] else "",
        f"{loop['share_of_limit']:.0%}",
    )


def _notes(content: dict[str, Any]) -> list[str]:
    notes = [
        f"Limit in {dtype}: {c['flop_per_sec'] / 1e9:,.0f} GFLOP/s in a matrix product, "
        f"{c['bytes_per_sec'] / 1e9:,.1f} GB/s in a copy."
        for dtype, c in content["ceilings"].items()
    ]
    if "ratios" not in content:
        return notes
    works = dict.fromkeys(
        (x["gflop_an_image"], x["least_mb_an_image"], x["limit_images_per_sec"]) for x in content["loops"]
    )
    notes += [f"{g:.2f} GFLOP and {mb:.1f} MB an image at least: {limit:,.1f} images/s." for g, mb, limit in works]
    ratios, data = content["ratios"], content["data"]
    longer = 1 / ratios["trainer_over_bare"] - 1
    more = f"{abs(longer):.1%} {'more' if longer > 0 else 'less'}"
    notes.append(
        f"Trainer.fit does {ratios['trainer_over_seed']:.2f} times the images/s of the seed's loop; its step takes "
        f"{more} time than the bare loop's (medians of the rounds' ratios)."
    )
    guards = content["guards"]
    notes.append(
        f"What makes it safe to kill takes {guards['share']:.2%} of its time: "
        f"{guards['seconds_a_step'] * 1000:.2f} ms a step, and {guards['checkpoint_seconds']:.2f} s for a checkpoint "
        f"of {guards['checkpoint_bytes'] / 1e6:,.0f} MB every {guards['every_minutes']:g} minutes."
    )
    equal = "equal to the last bit" if data["equal_to_the_last_bit"] else "NOT EQUAL"
    notes.append(
        f"128 images to {data['image_size']} px on one core: {data['seconds'] * 1000:.1f} ms, the seed's transform "
        f"{data['seed_seconds'] * 1000:.1f} ms ({data['times_faster']:.1f} times), {equal}; "
        f"the data takes {data['host_bytes'] / 1e6:.0f} MB of memory."
    )
    return notes
