from pathlib import Path

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
