"""TensorBoard's event files in the folder of a training that is resumed."""

from collections.abc import Iterator
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from fashion_vgg import atomic

KEPT = "events.out.tfevents.0000000000.kept"
"""TensorBoard reads event files by name: this one before those of any clock."""
_WRITTEN_AGAIN = ("_hparams_/", "custom_scalars__config__")


@rank_zero_only
def keep_before(folder: Path, step: int) -> None:
    """Replace the event files in a folder by one with their points before a step.

    TensorBoard itself drops the points that a resumed training repeats; other readers, such as pandas with tbparse,
    would have them twice. What a training writes at its start is left out.
    """
    paths = sorted(path for path in folder.glob("events.out.tfevents.*") if path.is_file())
    if not paths:
        return
    with atomic.writing(folder / KEPT) as file:
        writer = RecordWriter(file)
        # A kill after the file was written leaves the others: a point of both is one point.
        for record in dict.fromkeys(_points_before(step, paths)):
            writer.write(record)
    for path in paths:
        if path.name != KEPT:
            path.unlink()


def _points_before(step: int, paths: list[Path]) -> Iterator[bytes]:
    yield Event(file_version="brain.Event:2").SerializeToString()
    for path in paths:
        for record in RawEventFileLoader(str(path)).Load():  # as far as a kill or a full disk has let it be written
            event = Event.FromString(record)
            again = all(value.tag.startswith(_WRITTEN_AGAIN) for value in event.summary.value)
            if event.HasField("summary") and event.step < step and not again:
                yield record
