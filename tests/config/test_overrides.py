from fashion_vgg.config.overrides import flags_first


def test_flags_and_their_values_come_before_the_overrides() -> None:
    argv = ["a=1", "-m", "b=2", "-cd", "folder=x", "~c", "--config-dir=y", "d=3", "--info", "all"]
    assert flags_first(argv) == ["-m", "-cd", "folder=x", "--config-dir=y", "--info", "all", "a=1", "b=2", "~c", "d=3"]
