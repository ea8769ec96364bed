from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from fashion_vgg.config.overrides import split_flags, with_quoted_path


def test_flags_are_split_from_overrides_with_their_values() -> None:
    argv = ["a=1", "-m", "b=2", "-cd", "folder=x", "~c", "--config-dir=y", "d=3", "--info", "all"]
    flags, overrides = split_flags(argv)
    assert flags == ["-m", "-cd", "folder=x", "--config-dir=y", "--info", "all"]
    assert overrides == ["a=1", "b=2", "~c", "d=3"]


def test_paths_are_quoted_where_hydra_would_take_them_apart(tmp_path: Path) -> None:
    run = tmp_path / "lr=0.1,seed=0"
    run.mkdir()
    assert with_quoted_path(f"weights={run}") == f"weights='{run}'"
    assert with_quoted_path(f"to={run}/new.onnx") == f"to='{run}/new.onnx'"
    assert with_quoted_path(f"to={run}/none/new.onnx") == f"to='{run}/none/new.onnx'"
    for word in (f"weights={tmp_path}", f"weights='{run}'", "seed=1,2", f"init_weights={tmp_path}/a,{tmp_path}/b"):
        assert with_quoted_path(word) == word


def test_values_with_characters_that_hydras_grammar_lacks_are_quoted() -> None:
    parse = OverridesParser.create().parse_overrides
    for value in ("größe", "/no/größe#1/new", "a&b", "a!b;c<d>e^f`"):
        with pytest.raises(HydraException):
            parse([f"name={value}"])
        [override] = parse([with_quoted_path(f"name={value}")])
        assert override.value() == value
    for word in ("tags=[größe]", "name='größe'", "lr=tag(log,interval(0.01,1))", "~größe", "+x={a:1}", "a=${b}"):
        assert with_quoted_path(word) == word


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for home, expected in (("/home/me", "/home/me/data"), ("/home/jörg", "'/home/jörg/data'")):
        monkeypatch.setenv("HOME", home)
        assert with_quoted_path("data.root=~/data") == f"data.root={expected}"
    assert with_quoted_path("~callbacks.best") == "~callbacks.best"
