"""What several test modules share; each function is documented in the module it comes from."""

from tests.helpers.compare import TIMES, assert_equal, assert_same, curves
from tests.helpers.configs import composed, member
from tests.helpers.local import free_ports, memory_growth_below, path_with_srun, wait_until
from tests.helpers.runs import accuracy_by_hand, finish, leave, only, read_summary, trained, weights
from tests.helpers.training import each_reseeded, small_classifier, small_datamodule, trainer_for

__all__ = [
    "TIMES",
    "accuracy_by_hand",
    "assert_equal",
    "assert_same",
    "composed",
    "curves",
    "each_reseeded",
    "finish",
    "free_ports",
    "leave",
    "member",
    "memory_growth_below",
    "only",
    "path_with_srun",
    "read_summary",
    "small_classifier",
    "small_datamodule",
    "trained",
    "trainer_for",
    "wait_until",
    "weights",
]
