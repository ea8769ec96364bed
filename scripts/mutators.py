"""Mutations that keep a file's checksums, lengths and syntax right, so that the content gets past them to the readers.

Each function takes a file's bytes, random numbers, and libFuzzer's mutation of bytes, and returns an altered file.
"""

import copy
import gzip
import io
import json
import pickletools
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

import safetensors.torch
import yaml
from tests.faults.fuzz_targets import SECTION

from fashion_vgg.checkpoints import published

Bytes = Callable[[bytes], bytes]

_OPCODES = [
    *(b"K\x00", b"K\x01", b"K\x03", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"),
    *(b"N", b"\x88", b")", b"]", b"}", b"(", b"0", b"2", b"G\x7f\xf8" + bytes(6), b"X\x01\x00\x00\x00a", b"C\x01a"),
    *(b"R", b"b", b"\x81", b"t", b"\x85", b"\x86", b"u", b"s", b"a", b"e", b"Q", b"h\x00", b"q\x00", b"."),
    *(f"ctorch._utils\n_rebuild_{name}\n".encode() for name in ("tensor_v2", "parameter", "sparse_tensor", "qtensor")),
    *(f"ctorch._utils\n_rebuild_{name}\n".encode() for name in ("meta_tensor_no_storage", "nested_tensor")),
    *(f"ctorch\n{name}\n".encode() for name in ("FloatStorage", "ByteStorage", "QInt8Storage", "Size", "device")),
    *(f"ctorch\n{name}\n".encode() for name in ("sparse_coo", "float64", "complex64", "float8_e4m3fn", "Tensor")),
    *(b"ccollections\nOrderedDict\n", b"cposix\nsystem\n", b"c__builtin__\neval\n", b"c_codecs\nencode\n"),
    *(b"c__builtin__\nbytearray\n", b"c__builtin__\nset\n", b"ctorch\nFloatTensor\n", b"ccollections\nCounter\n"),
]
_VALUES: list[Any] = [
    *(None, True, 0, -1, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], {"x": {}}),
    *("nan", "1e400", "\udcff", "\0", "a\n\nb", "${x}", "${oc.env:HOME}", "???", "a=1", "~a", "seed=1"),
    *("+a@hydra=x", "+a@_global_.hydra=x", "a@b._global_.hydra=x"),
    *("F32", "BOOL", "F4", "F8_E8M0", "F6_E2M3", "C64", "U16", [0, 4], [2**62, 4], "finished", "failed", "val/acc"),
    *("hydra.callbacks.x=1", "hydra/launcher=x", "'a'", "a=[1,{b:2}]", "/hydra", [{"override /hydra/x": "y"}]),
    *("os.system", {"_target_": "os.system"}, {"()": "os.system"}, {"class": "os.system"}),
    ["_self_", {"/a@hydra.callbacks": "b"}],
]
_KEYS = [
    *("", "a", "hydra", "callbacks", "job_logging", "searchpath", "_target_", "()", "class", "handlers", "defaults"),
    *("job", "env_set", "group", "group@a", "/group@hydra", "/group@_global_.hydra", "override /hydra/callbacks"),
    *("best", "final", "wall_seconds", "images_per_sec", "status", "error", "overrides", "val/acc", "sha256", "dtype"),
]
_PACKAGES = ["_global_", "_group_", "_name_", "a", "hydra", "_global_.hydra", "hydra.job.env_set", "hydra.callbacks"]
_TOKENS = [*b'nan inf 1e400 , " \x00 &a *a <<: !!set [ { : - #'.split(b" "), b"\n", b": ", b"- "]


def in_zip(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Alter a part of a checkpoint, mostly its pickle."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name in parts if name.endswith(".pkl")]
    name = rng.choice([*parts, *pickles * 20])
    parts[name] = in_pickle(parts[name], rng, mutate) if name in pickles else mutate(parts[name])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def in_pickle(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Delete, repeat, move, replace or insert opcodes of one or several pickles; what follows them stays."""
    file, starts = io.BytesIO(data), []
    try:
        while file.tell() < len(data):
            starts += [position for _, _, position in pickletools.genops(file) if position is not None]
    except Exception:  # noqa: S110 # no further pickle
        pass
    codes = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, other = rng.randrange(len(codes)), rng.randrange(len(codes))
        match rng.randrange(6):
            case 0:
                del codes[place]
            case 1:
                codes.insert(place, codes[other])
            case 2:
                codes[place], codes[other] = codes[other], codes[place]
            case 3:
                codes[place] = rng.choice(_OPCODES)
            case 4:
                codes.insert(place, rng.choice(_OPCODES))
            case 5:
                codes[place] = mutate(codes[place])
    return b"".join(codes)


def in_safetensors(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Alter the header, the description or the weights; the header's length stays right, the SHA-256 mostly."""
    length = int.from_bytes(data[:8], "little")
    header, weights = json.loads(data[8 : 8 + length]), data[8 + length :]
    card = json.loads(header["__metadata__"]["model_card"])
    match rng.randrange(3):
        case 0:
            card = in_tree(card, rng, mutate)
        case 1:
            header = in_tree(header, rng, mutate)
        case 2:
            weights = mutate(weights)
    if rng.random() < 0.1:
        return _with_length(header, weights)
    try:
        card["sha256"] = published._sha256(safetensors.torch.load(_with_length(header, weights)), card)
        header["__metadata__"]["model_card"] = json.dumps(card)
    except Exception:  # noqa: S110 # refused before its SHA-256 is calculated
        pass
    return _with_length(header, weights)


def in_gzip(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Alter what is compressed."""
    return gzip.compress(mutate(gzip.decompress(data)), compresslevel=rng.choice([0, 9]), mtime=0)


def in_json(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Alter a value of JSON."""
    return json.dumps(in_tree(json.loads(data), rng, mutate)).encode()


def in_yaml(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Alter a value of YAML, or the package that Hydra reads from the first line."""
    first = re.match(rb"(#.*\n)?", data)
    header = first[0] if first else b""
    if rng.random() < 0.1:
        return f"# @package {rng.choice(_PACKAGES)}\n".encode() + data[len(header) :]
    content = yaml.dump(in_tree(yaml.safe_load(data), rng, mutate), allow_unicode=True)
    return header + content.encode(errors="surrogateescape")


def in_text(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Insert a word of the syntax, or alter any bytes."""
    if rng.random() < 0.5:
        return mutate(data)
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(_TOKENS) + data[place + rng.choice([0, 0, 1, 4]) :]


def in_section(data: bytes, rng: random.Random, mutate: Bytes) -> bytes:
    """Alter one of several files; see `SECTION`."""
    parts = SECTION.split(data)
    place = rng.randrange(1, len(parts), 2)
    kinds = {b".json": in_json, b".yaml": in_yaml}
    inside = kinds.get(parts[place][-5:], in_text) if rng.random() < 0.8 else in_text
    parts[place + 1] = inside(parts[place + 1], rng, mutate).rstrip(b"\n") + b"\n"
    return b"".join(b"== " + part + b"\n" if index % 2 else part for index, part in enumerate(parts))


def in_tree(tree: Any, rng: random.Random, mutate: Bytes) -> Any:
    """Replace, delete, copy or rename a node of nested lists and dictionaries."""
    root = {"root": tree}
    nodes = _nodes(root)
    for _ in range(rng.choice([1, 1, 2])):
        (parent, key), (source, name) = rng.choice(nodes), rng.choice(nodes)
        if key not in (parent if isinstance(parent, dict) else range(len(parent))):
            continue
        match rng.randrange(5):
            case 0 if parent is not root:
                del parent[key]
            case 1 if isinstance(parent, dict) and parent is not root:
                parent[rng.choice(_KEYS)] = parent[key]
            case 2 if isinstance(parent[key], str):
                parent[key] = mutate(parent[key].encode(errors="surrogateescape")).decode(errors="surrogateescape")
            case 3 if name in (source if isinstance(source, dict) else range(len(source))):
                parent[key] = copy.deepcopy(source[name])
            case _:
                parent[key] = copy.deepcopy(rng.choice(_VALUES))
    return root["root"]


def _nodes(root: Any) -> list[tuple[Any, Any]]:
    """Each container with each of its keys; one that aliases repeat counts once."""
    found, open_, seen = [], [root], set()
    while open_:
        parent = open_.pop()
        if isinstance(parent, dict | list) and id(parent) not in seen:
            seen.add(id(parent))
            items = list(parent.items() if isinstance(parent, dict) else enumerate(parent))
            found += [(parent, key) for key, _ in items]
            open_ += [value for _, value in items]
    return found


def _with_length(header: Any, weights: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + weights


MUTATORS: dict[str, list[Callable[[bytes, random.Random, Bytes], bytes]]] = {
    "checkpoint": [in_zip],
    "initial": [in_zip, in_pickle],
    "safetensors": [in_safetensors],
    "idx": [in_gzip],
    "runs": [in_section],
    "sweep": [in_json, in_text],
    "config": [in_section],
    "words": [in_json],
}
"""By target. libFuzzer's own mutation of the whole file is one more for each."""
