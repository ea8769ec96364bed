"""MLflow's logger for jobs that run in parallel."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch import loggers

_SQLITE = "sqlite:///"


class MLFlowLogger(loggers.MLFlowLogger):
    """Lightning's logger. One process at a time uses an SQLite file.

    MLflow fails if two processes create the tables or the experiment at once.
    """

    def __init__(self, *, tracking_uri: str, **settings: Any) -> None:
        self._lock = _lock(tracking_uri)
        with self._lock:
            super().__init__(tracking_uri=tracking_uri, **settings)

    @property
    def experiment(self) -> Any:
        """MLflow's client; creates the experiment and the run at its first use."""
        with self._lock:
            return super().experiment


def _lock(tracking_uri: str) -> AbstractContextManager[Any]:
    if not tracking_uri.startswith(_SQLITE):
        return nullcontext()
    path = Path(f"{tracking_uri.removeprefix(_SQLITE)}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
