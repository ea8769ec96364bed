"""Fuzz the readers of files from elsewhere (tests/faults/fuzz_targets.py) with atheris, guided by their coverage.

    python scripts/fuzz.py <target> ... | all  [--seconds 600]  [libFuzzer's flags, such as -max_len=4096]

Starts from tests/corpus/<target>. Inputs that reach new code are kept in outputs/fuzz/<target>/corpus, findings beside
them; a finding that is fixed belongs into tests/corpus. Flags of libFuzzer that begin with -merge or -minimize reduce
these folders.
"""

import argparse
import logging
import os
import random
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = ROOT / "outputs" / "fuzz"
CORPUS = ROOT / "tests" / "corpus"
SHARES = {
    **{"checkpoint": 25, "initial": 15, "safetensors": 12, "idx": 3},
    **{"runs": 20, "sweep": 7, "config": 10, "words": 8},
}
"""Per cent of the time; the more code behind a target, the more."""
FLAGS = ["-timeout=60", "-rss_limit_mb=2048", "-max_len=16384", "-len_control=0", "-print_final_stats=1"]
"""The time is the clock's, beside whatever else runs; test_corpus.py allows 10 s. Torch alone takes 0.8 GB."""
INSTRUMENTED = ["fashion_vgg", "gzip", "json", "csv", "safetensors", "zipfile"]


def main() -> None:
    """Fuzz one target, or all in turn, and print a row for each."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="+", metavar="target", choices=[*SHARES, "all"], help=", ".join([*SHARES, "all"])
    )
    parser.add_argument("--seconds", type=int, default=600, help="in all (default: %(default)s)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args()
    if args.worker:
        work(args.targets[0], flags)  # libFuzzer ends the process
    print(f"{'target':12}{'seconds':>9}{'executions':>12}{'edges':>8}{'features':>10}{'corpus':>8}{'findings':>10}")
    shares = {target: share for target, share in SHARES.items() if {target, "all"} & {*args.targets}}
    for target, share in shares.items():
        fuzz(target, args.seconds * share // sum(shares.values()), flags)


def fuzz(target: str, seconds: int, flags: list[str]) -> None:
    """Fuzz a target in processes of their own, since a hang, a lack of memory or a crash ends the process."""
    folder = OUTPUTS / target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    began, log = time.monotonic(), folder / "log.txt"
    log.unlink(missing_ok=True)
    while (left := round(seconds - (time.monotonic() - began))) > 0:
        corpora = [str(folder / "corpus"), str(CORPUS / target)]
        line = [sys.executable, __file__, target, "--worker", *FLAGS, f"-max_total_time={left}"]
        line += [f"-artifact_prefix={folder}/", *flags, *corpora]
        with log.open("a") as file:
            done = subprocess.run(
                line, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
            )
        if done.returncode == 1:  # of Python, where libFuzzer has others
            sys.exit(f"{target} did not start:\n{log.read_text(errors='replace')[-2000:]}")
    text = log.read_text(errors="replace")
    executions = sum(map(int, re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)))
    edges, features, corpus = ([*re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text), ("0",) * 3])[-2:][0]
    findings = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(("log", "slow"))]
    spent = round(time.monotonic() - began)
    print(f"{target:12}{spent:9,}{executions:12,}{edges:>8}{features:>10}{corpus:>8}{len(findings):10}", flush=True)
    for path in findings:
        print(f"  {path.relative_to(ROOT)}")


def work(target: str, flags: list[str]) -> None:
    """Run libFuzzer in this process. A finding that raises an exception is kept, and the fuzzing continues."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from mutators import MUTATORS
        from tests.faults import fuzz_targets
    instrument_torch(atheris)
    logging.disable()
    known: set[str] = set()

    def test(data: bytes) -> None:
        try:
            fuzz_targets.run(target, data)
        except BaseException as error:
            if (name := finding_name(error)) not in known:
                known.add(name)
                (OUTPUTS / target / name).write_bytes(data)
                traceback.print_exc()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311
        inside = rng.choice([*MUTATORS[target] * 4, None])
        try:
            altered = inside(data, rng, lambda part: atheris.Mutate(part, max(64, 2 * len(part)))) if inside else b""
        except Exception:  # not in the format that this mutation takes apart
            altered = b""
        return altered if 0 < len(altered) <= max_size else atheris.Mutate(data, max_size)

    command = f"{sys.executable} {__file__} {target} --worker"  # which libFuzzer starts again for -merge=1
    atheris.Setup([command, *flags], test, custom_mutator=mutate)
    atheris.Fuzz()


def instrument_torch(atheris: object) -> None:
    """Count the coverage of what unpickles a checkpoint; the whole of torch takes too long to instrument."""
    from torch import _utils, _weights_only_unpickler, serialization

    functions = [value for module in (_utils, serialization) for value in vars(module).values()]
    functions += vars(_weights_only_unpickler.Unpickler).values()
    for function in functions:
        if type(function) is type(instrument_torch):
            atheris.instrument_func(function)


def finding_name(error: BaseException) -> str:
    """The exception and the place in this project that it passed last."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    return f"{type(error).__name__}-{Path(frames[-1].filename).stem}-{frames[-1].lineno}"


if __name__ == "__main__":
    main()
