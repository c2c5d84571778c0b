"""Ways to damage a file or a folder of a finished run: what a bad disk, a bad copy or a bad person leaves.

A way is a function of a Spot, whose draw decides everything that varies, so that a case is repeated by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load, save

from dsac.commit import MANIFEST, rendered
from dsac.config import conf_folder

DEEP = "@deep@"  # stands for brackets too deep for a writer
BRACKETS = 10_000
MODULE = "theirs.payload"  # lies on the path of modules and leaves a trace when it is imported


@dataclass(frozen=True)
class Spot:
    """What is damaged: a place in a run, with the folder outside that nothing may touch."""

    run: Path
    target: str
    outside: Path
    draw: random.Random

    @property
    def path(self) -> Path:
        return self.run / self.target


Way = Callable[[Spot], None]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    """Register a way to damage under the name of its function."""
    WAYS[function.__name__.replace("_", "-")] = function
    return function


def clear(path: Path) -> None:
    """Nothing stands there any more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(spot: Spot, content: bytes | str) -> None:
    """Replace a file."""
    clear(spot.path)
    spot.path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


# Any file.


@way
def cut(spot: Spot) -> None:
    content = spot.path.read_bytes()
    put(spot, content[: spot.draw.choice([0, 1, len(content) // 2, max(len(content) - 1, 0)])])


@way
def flip(spot: Spot) -> None:
    content = bytearray(spot.path.read_bytes() or b"\0")
    for _ in range(spot.draw.choice([1, 1, 1, 20])):
        content[spot.draw.randrange(len(content))] ^= 1 << spot.draw.randrange(8)
    put(spot, bytes(content))


@way
def noise(spot: Spot) -> None:
    made = [b"\xff\xfe\0", "é".encode("latin-1") * 9, b"\0" * 4096, spot.draw.randbytes(300), b"\n" * 999, b"=1\r\r\n"]
    put(spot, spot.draw.choice(made))


@way
def splice(spot: Spot) -> None:
    """Something put into the middle, as a bad merge or a bad sector does."""
    content = spot.path.read_bytes()
    at = spot.draw.randrange(len(content) + 1)
    put(
        spot, content[:at] + spot.draw.choice([b"\xe9", b"\0", b"\n", b"\x1b[31m", content[:at], b",,,"]) + content[at:]
    )


@way
def huge(spot: Spot) -> None:
    os.truncate(spot.path, 6 << 30)  # a hole: no blocks on the disk


@way
def locked_away(spot: Spot) -> None:
    spot.path.chmod(spot.draw.choice([0, 0o444, 0o555]))


# Another kind of thing in place of a file or folder, or where nothing was.


@way
def gone(spot: Spot) -> None:
    clear(spot.path)


@way
def pipe(spot: Spot) -> None:
    clear(spot.path)
    os.mkfifo(spot.path)


@way
def device(spot: Spot) -> None:
    clear(spot.path)
    spot.path.symlink_to(spot.draw.choice(["/dev/zero", "/dev/random", "/dev/full"]))


@way
def link(spot: Spot) -> None:
    """To a file, a folder or nothing outside, or to itself."""
    clear(spot.path)
    places = ["file.txt", "folder", "nothing", "config.yaml", "step"]
    spot.path.symlink_to(spot.draw.choice([*(spot.outside / name for name in places), spot.path]))


@way
def moved(spot: Spot) -> None:
    """The content is what it was, behind a link to another place."""
    if os.path.lexists(spot.path):
        spot.path.rename(spot.outside / "moved")
    else:
        shutil.copytree(spot.outside / "folder", spot.outside / "moved")
    spot.path.symlink_to(spot.outside / "moved")


@way
def folder(spot: Spot) -> None:
    clear(spot.path)
    spot.path.mkdir()
    if spot.draw.random() < 0.5:
        (spot.path / spot.draw.choice(["x", "config.yaml", "manifest.json", "policy.json"])).write_text("{}")


@way
def text(spot: Spot) -> None:
    put(spot, spot.draw.choice(["", "{}", "[]", "x\n", "format: 1\n", "a,b\n1,2\n"]))


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

JSON_WHOLE = ["{}", "[]", "null", '"x"', "3", "[{}]", "[1, 2]", "9" * 6000, "1e999", "NaN", "", "{", '{"sittings": 1}',
              '{"sittings": []}', '{"sittings": [{}]}', '{"sittings": [null]}', '{"trainer": {}}', '{"trainer": null}',
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
        lambda: np.full_like(value, spot.draw.choice([-1, 1, 100])), lambda: np.full(value.shape, np.nan, np.float32),
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


# metrics.csv.


@way
def rows(spot: Spot) -> None:
    lines = spot.path.read_text().splitlines()
    at = spot.draw.choice([number for number, line in enumerate(lines) if ",eval/return," in line or number == 0])
    fields = lines[at].split(",")
    values = ["", "x", "nan", "inf", "-1", "1e308", "1e400", "9" * 6000, "²", "-0", "0x1", "1_0", " 1", "\0", "é",
              '"', "=1+1", "\x1b[31m", "<script>", "2" * 30]  # fmt: skip
    change = spot.draw.randrange(7)
    if change < 4:
        fields[spot.draw.randrange(len(fields))] = spot.draw.choice(values)
    lines[at] = ",".join([fields, fields, fields, fields, fields[:2], fields * 3, [",eval/return,"]][change])
    if spot.draw.random() < 0.2:
        lines = [*lines, "1,1,1,eval/return", ",eval/return,", "a" * 200_000, *lines[1:]]
    put(spot, "\n".join(lines) + spot.draw.choice(["\n", "", "\n\n"]))
