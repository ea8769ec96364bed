"""Input that must be refused: overrides that do not fit, and configurations that would run code."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fashion_vgg.config import targets, validation
from fashion_vgg.config.app import CONF
from fashion_vgg.errors import UserError
from fashion_vgg.training.build import check_components
from tests.conftest import Command, Survived
from tests.faults.conftest import LONG, in_the_long_set, times
from tests.helpers import composed


@cache
def keys() -> list[str]:
    """The keys of `fashion-vgg train` that have a domain, except those that the command line is expanded by."""
    cfg = composed("train", "scheduler=triangular", "output_dir=x")
    missing = object()
    known = [key for key in validation.DOMAINS if OmegaConf.select(cfg, key, default=missing) is not missing]
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
    return validation.DOMAINS[key].fits(plain)


@st.composite
def bad_overrides(draw: st.DrawFn) -> tuple[str, str]:
    key = draw(st.sampled_from(keys()))
    return key, draw(VALUES.filter(lambda value: not fits(key, value)))


def test_a_bad_value_is_refused_with_the_values_that_fit(
    fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    tried = []

    @settings(
        max_examples=times(15, 200),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
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
    *("optimizer.lrr=1", "Optimizer.lr=1", "schedular=triangular", "model=vgg99", "experiment=", "resume=/no/run"),
    *("data.root='/proc/no such/ünïcode=folder'", "trainer.ckpt_path=a", "=1", "seed", "seed=='1", "optimizer.lr='"),
    *("hydra.run.dir=/proc/nowhere/run", "trainer.max_time=never", "logger=wandb", "checkpoint=none", "-x", "a b=c"),
]


@pytest.mark.parametrize("override", UNKNOWN)
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


HOSTILE = [
    {"_target_": "os.system", "command": "touch {marker}"},
    {"_target_": "subprocess.Popen", "args": "touch {marker}", "shell": True},
    {"_target_": "builtins.open", "file": "{marker}", "mode": "w"},
    {"_target_": "io.open", "file": "{marker}", "mode": "w"},
    {"_target_": "builtins.exec", "_args_": ["open('{marker}', 'w')"]},
    {"_target_": "builtins.eval", "_args_": ["open('{marker}', 'w')"]},
    {"_target_": "shutil.copy", "src": "/etc/hostname", "dst": "{marker}"},
    {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": ["{marker}"]}},
    {"_target_": "torch.load", "f": "{bomb}", "weights_only": False},
    {"_target_": "torch.hub.load", "repo_or_dir": "{bomb}", "model": "net", "source": "local"},
    {"_target_": "torch.optim.optimizer.torch.load", "f": "{bomb}", "weights_only": False},
    {"_target_": "fashion_vgg.config.app.os.system", "command": "touch {marker}"},
    {
        "_target_": "fashion_vgg.atomic.write",
        "path": {"_target_": "pathlib.Path", "_args_": ["{marker}"]},
        "content": "",
    },
    {"_target_": "fashion_vgg.runs.summary.subprocess.run", "args": ["touch", "{marker}"]},
    {"_target_": "fashion_vgg.models.VGG", "conv_arch": {"_target_": "os.system", "command": "touch {marker}"}},
]

GROUPS = ["data", "model", "optimizer", "scheduler", "trainer", "callbacks.more", "logger.more", "classifier"]
GROUPS += ["checkpoint"]


def filled(node: Any, **values: Any) -> Any:
    if isinstance(node, dict):
        return {key: filled(value, **values) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, **values) for value in node]
    return node.format(**values) if isinstance(node, str) else node


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_target_is_refused(tmp_path: Path, survived: Survived, group: str) -> None:
    cfg = composed("train", "scheduler=triangular", f"output_dir={tmp_path}")
    OmegaConf.set_struct(cfg, False)
    for hostile in HOSTILE:
        OmegaConf.update(cfg, group, filled(hostile, marker=tmp_path / "marker", bomb=tmp_path / "bomb"), merge=False)
        with pytest.raises(UserError, match=r"_target_=\S+ does not fit: a configuration may instantiate classes of"):
            targets.check(cfg)
    survived("a hostile _target_ in a config group is refused", len(HOSTILE), len(HOSTILE))


def test_a_hostile_stored_config_runs_nothing(fashion_vgg: Command, tmp_path: Path, survived: Survived) -> None:
    """Code that runs would make the file `marker`."""
    marker, done = tmp_path / "marker", 0
    job = OmegaConf.to_container(composed("train", "output_dir=x"), resolve=True)
    for hostile in HOSTILE if LONG else HOSTILE[:2]:
        folder = tmp_path / f"run{done}" / ".hydra"
        folder.mkdir(parents=True)
        node = filled(hostile, marker=marker, bomb=tmp_path / "bomb")
        OmegaConf.save(OmegaConf.create({**job, "model": node}), folder / "config.yaml")  # type: ignore[dict-item]
        refused = fashion_vgg(
            "train", "-cp", str(folder), "-cn", "config", f"hydra.run.dir={tmp_path}/new", root=tmp_path
        )
        assert refused.returncode == 2, refused
        assert "does not fit: a configuration may instantiate classes of" in refused.stderr
        done += 1
    call = {"_target_": "os.system", "command": f"touch {marker}"}
    of_hydra = [
        {"callbacks": {"evil": call}},
        {"job_logging": {"version": 1, "handlers": {"evil": {"()": "os.system", "command": f"touch {marker}"}}}},
        {"searchpath": [f"file://{tmp_path}/evil"]},
    ]
    for node in of_hydra:
        folder = tmp_path / f"run{done}" / ".hydra"
        folder.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create({**job, "hydra": node}), folder / "config.yaml")  # type: ignore[dict-item]
        refused = fashion_vgg("train", f"--config-path={folder}", "-cn", "config", root=tmp_path)
        assert refused.returncode == 2, refused
        assert "can run code: refused" in refused.stderr
        done += 1
    recorded = tmp_path / "recorded"
    (recorded / ".hydra").mkdir(parents=True)
    (recorded / "config.yaml").write_text("{}")
    evil = ["+hydra.callbacks.evil._target_=os.system", f"+hydra.callbacks.evil.command='touch {marker}'"]
    evil += ["-m", "+model.evil._target_=os.system", f"+model.evil.command='touch {marker}'"]
    OmegaConf.save(OmegaConf.create(evil), recorded / ".hydra" / "overrides.yaml")
    refused = fashion_vgg("train", f"resume={recorded}", root=tmp_path)
    assert refused.returncode == 2, refused
    assert "model.evil._target_=os.system does not fit" in refused.stderr
    assert not marker.exists()
    survived("a hostile stored configuration runs nothing", done + 1, done + 1)


def test_a_target_in_an_interpolation_is_checked() -> None:
    for hidden in ("${oc.create:'{_target_: os.system}'}", "${evil}"):
        cfg = OmegaConf.create({"model": hidden, "evil": {"_target_": "os.system"}})
        with pytest.raises(UserError, match=r"_target_=os\.system does not fit"):
            targets.check(cfg)


def test_targets_are_checked_again_after_the_precision_is_chosen(tmp_path: Path) -> None:
    cfg = composed("train", f"output_dir={tmp_path}", "trainer.precision=auto")
    OmegaConf.set_struct(cfg, False)
    cfg.names = {"auto": cfg.model._target_, "bf16-mixed": "os.system", "32-true": "os.system"}
    cfg.model._target_ = "${names.${trainer.precision}}"
    targets.check(cfg)
    with pytest.raises(UserError, match=r"_target_=os\.system does not fit"):
        check_components(cfg)


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {callbacks: {evil: '${evil}'}}",
        "hydra: '${evil}'",
        "hydra: {job_logging: '${evil}'}",
        "hydra: {job_logging: {handlers: {evil: {class: logging.config.os.system}}}}",
        "# @package   hydra.callbacks\nevil: {_target_: os.system}",
        "defaults: [{evil@hydra.callbacks.evil: default}]",
        "hydra: {searchpath: '${evil}'}",
    ],
)
def test_hydra_settings_that_can_run_code_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.yaml").write_text(text)
    for argv in (["-cd", str(tmp_path)], [f"--config-dir={tmp_path}"]):
        with pytest.raises(UserError, match="can run code"):
            targets.check_config_folders(argv)


def test_a_module_of_the_user_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = OmegaConf.create({"model": {"_target_": "mine.nets.Net"}})
    with pytest.raises(UserError, match=r"name it in the environment: FASHION_VGG_TRUST=mine\.nets"):
        targets.check(cfg)
    monkeypatch.setenv("FASHION_VGG_TRUST", "other,mine.nets")
    targets.check(cfg)


def test_every_shipped_target_is_allowed() -> None:
    text = "\n".join(path.read_text() for path in CONF.rglob("*.yaml") if CONF / "hydra" not in path.parents)
    shipped = set(re.findall(r"^\s*_target_: (.*)$", text, re.MULTILINE)) - {"fashion_vgg.sweeps.RecordSweep"}
    assert len(shipped) > 10
    targets.check(OmegaConf.create({str(index): {"_target_": target} for index, target in enumerate(shipped)}))
