"""Ways to damage what is in the files of a run: configs, records, states and arrays.

A hash guards against accidents, not against people: from `state_whole` on the hashes of manifests are made anew.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from damage import Spot, clear, put, way
from safetensors.numpy import load, save

from dsac.config import conf_folder
from dsac.persistence.atomic import MANIFEST, rendered

DEEP = "@deep@"  # stands for brackets too deep for a writer
BRACKETS = 10_000
MODULE = "theirs.payload"  # lies on the path of modules and leaves a trace when it is imported

# config.yaml.

YAML_VALUES = [
    "{a: &a [x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b],"
    " d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e],"
    " g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f], h: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g], i: [*h,*h,*h,*h,*h,*h,*h,*h,*h]}",
    "2020-13-45", "2020-01-01", "2020-01-01 25:61:61", "9" * 6000, "0x" + "f" * 6000, "1e400", "1e308", "-1", "0",
    "99999999999999", "0.5", ".nan", "-.inf", "true", "null", "[]", "{}", "[[], []]", "{a: 1}", "word", '""',
    "190:20:30", "&x [*x]", "&x {a: *x}", "*nothing", "[" * BRACKETS, "[" * BRACKETS + "]" * BRACKETS,
    "{a: " * 3000 + "1" + "}" * 3000, "!!binary aGk=", "!!set {a, b}", "!!python/name:os.system ''",
    "!!python/object/apply:os.system ['touch imported']", "!!python/object/new:type [a, [], {}]", "!mine {a: 1}",
    '"\\e[31mred"', '"a\\nb"', '"*/ int x; /*"', '"*\\\\\\n/ int x; /*"', '"a\\\\"', '"\\""', '"=1+1"', "'@x'",
    '"<script>alert(1)</script>"', '"${oc.env:HOME}"', '"../../../../outside/folder"', '"/dev/zero"', '"\\0"',
    "x" * 100_000, '"\\ud800"', '"\\U0001f600"', "[1, a, null, 2.5]", f"{MODULE}", f"{MODULE}:X-v0", "_target_: x",
]  # fmt: skip


@way
def yaml_value(spot: Spot) -> None:
    """Another value for a key."""
    lines = spot.path.read_text().splitlines()
    at = spot.draw.choice([number for number, line in enumerate(lines) if re.fullmatch(r" *\w+:.*", line)])
    lines[at] = f"{lines[at].partition(':')[0]}: {spot.draw.choice(YAML_VALUES)}"
    while len(lines) > at + 1 and lines[at].endswith(("]", "}")) and lines[at + 1].lstrip().startswith("- "):
        del lines[at + 1]  # what was a list over several lines
    put(spot, "\n".join(lines) + "\n")


@way
def yaml_whole(spot: Spot) -> None:
    """Another document."""
    put(spot, spot.draw.choice(YAML_VALUES))


@way
def yaml_key(spot: Spot) -> None:
    """A key more: unknown, doubled, or none that a dataclass could have."""
    value = spot.draw.choice(YAML_VALUES)
    key = spot.draw.choice(
        ["extra", "seed", "algo", "1", "null", "? [a]\n", "'a\\nb'", '"\\e[2J"', "<<", "resume", "_t"]
    )
    put(spot, f"{spot.path.read_text()}{key}: {value}\n")


@way
def yaml_drop(spot: Spot) -> None:
    lines = spot.path.read_text().splitlines()
    del lines[spot.draw.randrange(len(lines))]
    put(spot, "\n".join(lines) + "\n")


def with_module(config: dict[str, Any], draw: random.Random) -> None:
    """The config asks for code of its own."""
    section, key, value = draw.choice(
        [("algo", "name", MODULE), ("env", "id", f"{MODULE}:X-v0"), ("env", "task", MODULE), ("algo", "name", "theirs")]
    )
    config[section][key] = value


def of_another_algorithm(config: dict[str, Any], draw: random.Random) -> None:
    """The config is that of another algorithm, whole or by name."""
    name = draw.choice([path.stem for path in sorted((conf_folder() / "algo").glob("*.yaml"))])
    others = yaml.safe_load((conf_folder() / "algo" / f"{name}.yaml").read_text())
    config["algo"] = others if draw.random() < 0.5 else {**config["algo"], "name": name}


NAMES = [
    "*/ int x; /*",
    "*\\\n/ int x; /*",
    "a\\",
    "// int x;\nint x;",
    "<script>x()</script>",
    "=1+1",
    "\x1b[31mred",
    "a\nb",
    "\r",
    '"; int x;',
    "'",
    "| x |",
    "$(touch x)",
    "-x",
    "../../../outside",
    "@x",
    "\x9b2J",
    "??/",
    "x" * 300,
]


@way
def yaml_name(spot: Spot) -> None:
    """A name that is more than a name where it is printed: in C, HTML, a table or a terminal."""
    config = yaml.safe_load(spot.path.read_text())
    section, key = spot.draw.choice([("algo", "name")] * 3 + [("env", "name"), ("env", "id"), ("env", "xml")]
                                    + [(None, "experiment"), (None, "runs"), (None, "device")])  # fmt: skip
    (config[section] if section else config)[key] = spot.draw.choice(NAMES)
    put(spot, yaml.safe_dump(config, sort_keys=False))


@way
def yaml_module(spot: Spot) -> None:
    config = yaml.safe_load(spot.path.read_text())
    with_module(config, spot.draw)
    put(spot, yaml.safe_dump(config, sort_keys=False))


@way
def yaml_algorithm(spot: Spot) -> None:
    config = yaml.safe_load(spot.path.read_text())
    of_another_algorithm(config, spot.draw)
    put(spot, yaml.safe_dump(config, sort_keys=False))


# JSON: run.json, and state.json and manifest.json with and without their hashes made anew, as anyone can.

JSON_WHOLE = ["{}", "[]", "null", '"x"', "3", "[{}]", "[1, 2]", "9" * 6000, "1e999", "NaN", "", "{", '{"sessions": 1}',
              '{"sessions": []}', '{"sessions": [{}]}', '{"sessions": [null]}', '{"trainer": {}}', '{"trainer": null}',
              '{"files": {}}', '{"description": {}}', "[" * BRACKETS, "[" * BRACKETS + "]" * BRACKETS,
              '{"a":' * BRACKETS + "1" + "}" * BRACKETS]  # fmt: skip
JSON_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 3, 2.5, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf"), "", "x",
    "\x1b[31m", "a\nb", "\0", "*/ int x; /*", "*\\\n/ x", "<script>", "=1+1", "../../../outside/file.txt", "/dev/zero",
    "\ud800", "x" * 100_000, [], {}, [[]], [1], [None], ["a", "b"], {"a": 1}, {"$array": "none"}, {"$array": []},
    {"$log": ["none"], "tail": {}}, {"$log": 1}, {"$log": ["../../outside/file.txt"], "tail": None}, DEEP,
]  # fmt: skip


def as_json(tree: Any) -> str:
    return json.dumps(tree, indent=1).replace(f'"{DEEP}"', "[" * BRACKETS + "]" * BRACKETS)


def entries(tree: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of every value in a tree."""
    own = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key, _ in own] + [pair for _, value in own for pair in entries(value)]


def change_a_value(tree: Any, draw: random.Random) -> None:
    holder, key = draw.choice(entries(tree))
    if draw.random() < 0.5 and isinstance(tree, dict):  # upper levels are few and matter most
        holder, key = tree, draw.choice(list(tree))
    if draw.random() < 0.2:
        del holder[key]
    elif draw.random() < 0.1 and isinstance(holder, dict):
        holder[draw.choice(["", "..", "../../../outside/file.txt", "\x1b[31m", "x" * 5000, "1", "a.b"])] = holder[key]
    else:
        holder[key] = draw.choice(JSON_VALUES)


@way
def json_whole(spot: Spot) -> None:
    put(spot, spot.draw.choice(JSON_WHOLE))


@way
def json_value(spot: Spot) -> None:
    tree = json.loads(spot.path.read_text())
    change_a_value(tree, spot.draw)
    put(spot, as_json(tree))


@way
def state_whole(spot: Spot) -> None:
    json_whole(spot)
    rehash(spot.run)


@way
def state_value(spot: Spot) -> None:
    json_value(spot)
    rehash(spot.run)


def rehash(run: Path) -> None:
    """Make every manifest's entries and its own hash anew, as far as it is one."""
    for path in sorted(run.rglob(MANIFEST)):
        manifest = json.loads(path.read_text())
        for section, place in (("files", path.parent), ("segments", run / "checkpoints" / "segments")):
            listed = manifest.get(section, {})
            manifest[section] = {name: entry_of(place / name) if (place / name).is_file() else entry
                                 for name, entry in listed.items()}  # fmt: skip
        write_manifest(path, manifest)


def entry_of(path: Path) -> dict[str, Any]:
    """The size and hash of a file."""
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """With a hash of its own that is right, where the writer can make it."""
    manifest = {key: value for key, value in manifest.items() if key != "sha256"}
    clear(path)
    path.write_bytes(rendered(manifest).replace(f'"{DEEP}"'.encode(), (as_json(DEEP)).encode()))


def changed_manifest(spot: Spot, change: Callable[[dict[str, Any], random.Random], None]) -> None:
    manifest = json.loads(spot.path.read_text())
    change(manifest, spot.draw)
    write_manifest(spot.path, manifest)


@way
def manifest_value(spot: Spot) -> None:
    changed_manifest(spot, change_a_value)


@way
def manifest_step(spot: Spot) -> None:
    def change(manifest: dict[str, Any], draw: random.Random) -> None:
        key = draw.choice(["step", "env_steps", "updates", "scores", "schema", "evaluation_owed", "versions", "task"])
        manifest.pop(key, None)
        if draw.random() < 0.8:
            manifest[key] = draw.choice(JSON_VALUES)

    changed_manifest(spot, change)


@way
def manifest_names(spot: Spot) -> None:
    def change(manifest: dict[str, Any], draw: random.Random) -> None:
        section = draw.choice([key for key in ("files", "segments") if key in manifest])
        outside = str(spot.outside / "file.txt")
        name = draw.choice(["..", ".", "", "../x", outside, "a/b", "\0", "\x1b[31m", "x" * 300, "none"])
        old = draw.choice(list(manifest[section]))
        manifest[section][name] = manifest[section].pop(old) if draw.random() < 0.5 else manifest[section][old]

    changed_manifest(spot, change)


@way
def manifest_words(spot: Spot) -> None:
    """A text of the manifest, but for hashes, is more than a name where it is printed."""

    def change(manifest: dict[str, Any], draw: random.Random) -> None:
        parts = [entries([value]) for name, value in manifest.items() if name not in ("files", "segments")]
        texts = [(holder, key) for part in parts for holder, key in part if isinstance(holder[key], str)]
        for holder, key in draw.sample(texts, min(len(texts), 2)):
            holder[key] = draw.choice(NAMES)

    changed_manifest(spot, change)


@way
def manifest_config(spot: Spot) -> None:
    changed_manifest(spot, lambda manifest, draw: change_a_value(manifest["config"], draw))


@way
def manifest_module(spot: Spot) -> None:
    changed_manifest(spot, lambda manifest, draw: with_module(manifest["config"], draw))


@way
def manifest_algorithm(spot: Spot) -> None:
    changed_manifest(spot, lambda manifest, draw: of_another_algorithm(manifest["config"], draw))


# Arrays, with the hashes made anew.


@way
def array(spot: Spot) -> None:
    arrays = load(spot.path.read_bytes())
    name = spot.draw.choice(sorted(arrays))
    value = arrays.pop(name)
    changes: list[Callable[[], Any]] = [
        lambda: value.astype(np.int64), lambda: value.astype(np.float64), lambda: value.astype(np.float16),
        lambda: value.astype(bool), lambda: value[..., None], lambda: value.reshape(-1), lambda: value[:0],
        lambda: np.concatenate([value, value]), lambda: np.zeros((), value.dtype), lambda: np.zeros((0, 3, 0)),
        lambda: np.full_like(value, np.array(spot.draw.choice([-1, 1, 100])).astype(value.dtype)),
        lambda: np.full(value.shape, np.nan, np.float32),
        lambda: np.full(value.shape, 3e38, np.float32), lambda: -np.abs(value.astype(np.float32)) - 1,
        lambda: np.full(value.shape, 2**62), lambda: np.zeros((1 << 20,), np.float32), lambda: None,
    ]  # fmt: skip
    made = spot.draw.choice(changes)() if value.ndim else spot.draw.choice([None, np.int64(2**62), np.float32("nan")])
    if made is not None:
        arrays[spot.draw.choice([name, name, name, "other"])] = np.ascontiguousarray(made)
    put(spot, save(arrays))
    rehash(spot.run)


@way
def array_header(spot: Spot) -> None:
    """A header of safetensors that is none: sizes, offsets, types, depth."""
    content = spot.path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length].decode(), content[8 + length :]
    other = spot.draw.choice(
        [
            re.sub(r"\[\d+,", "[0,", header), header.replace('"F32"', '"F64"'), header.replace('"F32"', '"X9"'),
            header.replace('"shape":[', '"shape":[4611686018427387904,'), header.replace('"F32"', '"BF16"'),
            "[" * BRACKETS, "{}", "[]", "null", header.replace("}", "", 1), header.replace('"F32"', '"F8_E4M3"'),
            header.replace('"shape":[', '"shape":[-1,'), header + header,
        ]
    )  # fmt: skip
    size = spot.draw.choice([len(other.encode())] * 5 + [2**63 - 1, 0, 99_000_000])
    put(spot, size.to_bytes(8, "little") + other.encode() + rest)
    rehash(spot.run)
