from fashion_vgg.config.overrides import split_flags


def test_flags_are_split_from_overrides_with_their_values() -> None:
    argv = ["a=1", "-m", "b=2", "-cd", "folder=x", "~c", "--config-dir=y", "d=3", "--info", "all"]
    flags, overrides = split_flags(argv)
    assert flags == ["-m", "-cd", "folder=x", "--config-dir=y", "--info", "all"]
    assert overrides == ["a=1", "b=2", "~c", "d=3"]
