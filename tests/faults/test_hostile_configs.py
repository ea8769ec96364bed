"""Configurations that would run code, from a file or a recorded run: refused before anything is instantiated."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fashion_vgg.config import targets
from fashion_vgg.config.app import CONF
from fashion_vgg.errors import UserError
from fashion_vgg.training.build import check_components
from tests.conftest import Command, Survived
from tests.faults.conftest import LONG
from tests.helpers import composed

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


def test_another_name_of_hydras_own_package_runs_nothing(
    fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    marker, option = tmp_path / "marker", tmp_path / "conf" / "group" / "option.yaml"
    option.parent.mkdir(parents=True)
    touch = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(marker)]}}
    option.write_text("# @package _global_.hydra\n" + OmegaConf.to_yaml({"callbacks": {"evil": touch}}))
    refused = fashion_vgg("train", f"--config-dir={tmp_path}/conf", "+group=option", root=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused
    assert "can run code: refused" in refused.stderr
    assert not marker.exists()
    survived("a hostile stored configuration runs nothing", 1, 1)


def test_a_function_of_an_allowed_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(targets.TRUSTED, "torchvision.models")
    for function in ("lightning.seed_everything", "torchvision.models.resnet18"):
        cfg = OmegaConf.create({"model": {"_target_": function}})
        with pytest.raises(
            UserError, match=rf"model\._target_={re.escape(function)} does not fit: use a class, such as"
        ):
            targets.check(cfg)


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
        "# @package _global_.hydra\ncallbacks: {evil: {_target_: os.system}}",
        "\n#   @package a._global_.hydra.callbacks\nevil: {_target_: os.system}",
        "defaults: [{evil@_global_.hydra.callbacks.evil: default}]",
        "hydra: {job: {env_set: {FASHION_VGG_TRUST: os}}}",
        "# @package hydra.job.env_set\nFASHION_VGG_TRUST: os",
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


@pytest.mark.parametrize(
    "defaults",
    [
        "[../other/option]",
        "[{group: ../../other/option}]",
        "[/../other/option]",
        "[//etc/option]",
        "[{//etc: option}]",
        "[{dot: .}, {group: '${dot}${dot}/../other/option'}]",
        "[{dot: .}, {group: '${dot}${dot}'}]",
    ],
)
def test_files_outside_of_the_checked_folder_are_refused(tmp_path: Path, defaults: str) -> None:
    (tmp_path / "some.yaml").write_text(f"defaults: {defaults}")
    with pytest.raises(UserError, match="outside of the folder"):
        targets.check_config_folders(["-cd", str(tmp_path)])


def test_a_link_to_an_unchecked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "group").symlink_to(tmp_path)
    with pytest.raises(UserError, match="is a link to another folder"):
        targets.check_config_folders(["-cd", str(tmp_path / "conf")])


def test_defaults_within_the_checked_folder_are_allowed(tmp_path: Path) -> None:
    text = "defaults: [a: x, /b@c: '${a}', optional d: [x, y], override hydra/job_logging: plain, _self_]"
    (tmp_path / "some.yaml").write_text(text)
    targets.check_config_folders(["-cd", str(tmp_path)])
