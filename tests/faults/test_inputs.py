"""Overrides that do not fit are refused with a message; folders can have any name."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fashion_vgg.config import domains
from tests.conftest import Command, Survived
from tests.faults.conftest import in_the_long_set
from tests.helpers import composed


@cache
def keys() -> list[str]:
    """The keys of `fashion-vgg train` that have a domain, except those that the command line is expanded by."""
    cfg = composed("train", "scheduler=triangular", "output_dir=x")
    missing = object()
    known = [key for key in domains.DOMAINS if OmegaConf.select(cfg, key, default=missing) is not missing]
    return sorted(key for key in known if not key.endswith("resume"))


WORDS = st.text(st.characters(categories=("L", "N"), exclude_characters="\n"), min_size=1, max_size=12)
VALUES = st.one_of(
    st.sampled_from(
        ["abc", "-4", "0", "-0.5", ".nan", ".inf", "-.inf", "1e999", "true", "null", "[1,2]", "{a:1}", "''"]
    ),
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=False).map(repr),
    WORDS.map(lambda word: f"'{word}'"),
    st.sampled_from(["'a b'", "'a=b'", "'ünïcode/ßträße'", "'../..'", "${nowhere}", "'$HOME'"]),
)


def parsed(value: str) -> Any:
    """What Hydra reads for one of the values above."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    [override] = OverridesParser.create().parse_overrides([f"key={value}"])
    return OmegaConf.create({"value": override.value()})._get_node("value")


def fits(key: str, value: str) -> bool:
    if value == "${nowhere}":
        return False
    node: Any = parsed(value)
    plain = node._value() if hasattr(node, "_value") and not isinstance(node._value(), dict | list) else node
    return domains.DOMAINS[key].fits(plain)


@st.composite
def bad_overrides(draw: st.DrawFn) -> tuple[str, str]:
    key = draw(st.sampled_from(keys()))
    return key, draw(VALUES.filter(lambda value: not fits(key, value)))


@in_the_long_set
def test_a_bad_value_is_refused_with_the_values_that_fit(
    fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    tried = []

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(bad_overrides())
    def bad(override: tuple[str, str]) -> None:
        key, value = override
        group = ["scheduler=triangular"] if key.startswith("scheduler") else []
        done = fashion_vgg("train", *group, f"{key}={value}", root=tmp_path)
        assert done.returncode == 2, (override, done)
        assert "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) <= 2, done.stderr
        if value != "${nowhere}":
            assert re.match(rf"{re.escape(key)}=.* does not fit: use ", done.stderr), (override, done.stderr)
        tried.append(override)

    bad()
    assert not list(tmp_path.rglob("config.yaml.*"))
    assert not list(tmp_path.rglob("metrics.csv"))
    survived("a bad override is refused with its key and the values that fit", len(tried), len(tried))


UNKNOWN = [
    *("Optimizer.lr=1", "resume=/no/run", "data.root='/proc/no such/ünïcode=folder'", "=1", "seed=='1"),
    *("logger=wandb", "a b=c"),
]
MORE_UNKNOWN = [
    *("experiment=", "trainer.ckpt_path=a", "seed", "optimizer.lr='", "hydra.run.dir=/proc/nowhere/run"),
    *("trainer.max_time=never", "checkpoint=none", "-x"),
]


@pytest.mark.parametrize(
    "override", [*UNKNOWN, *(pytest.param(override, marks=in_the_long_set) for override in MORE_UNKNOWN)]
)
def test_an_unknown_key_group_or_folder_is_reported(fashion_vgg: Command, tmp_path: Path, override: str) -> None:
    done = fashion_vgg("train", override, root=tmp_path)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2 or done.stderr.startswith("usage: "), done.stderr
    assert not list(tmp_path.rglob("last.ckpt"))


NAMES = ["it's = ü,", "a b", "a=b,c", "ünïcode", "50%", "a:b", "(x)"]


@pytest.mark.parametrize("name", NAMES)
@in_the_long_set
def test_a_folder_can_have_any_name(fashion_vgg: Command, tiny: list[str], tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    done = fashion_vgg("train", *tiny, "trainer.max_epochs=1", root=root)
    assert done.returncode == 0, done.stderr
    [run] = root.glob("outputs/train/*/*")
    for args in (("train", f"resume={run}", "trainer.max_epochs=2"), ("test", f"weights={run}")):
        again = fashion_vgg(*args, root=root)
        assert again.returncode == 0, again.stderr
