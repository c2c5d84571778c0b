"""Odd files: what lies where a run keeps something is read as plain data, or is one line; nothing waits or grows."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dsac.errors import FileError
from dsac.schema import files

BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD_YAML = {
    "aliases that unfold to millions": BOMB,
    "an alias of itself": "a: &a [*a]",
    "deep": "[" * 30_000,
    "deep and whole": "[" * 30_000 + "]" * 30_000,
    "deep by indentation": "".join(" " * level + "a:\n" for level in range(300)),
    "digits": "a: " + "1" * 6_000,
    "a key twice": "a: 1\na: 2",
    "a key that is a number": "1: 2",
    "a key that is a list": "? [a]\n: 2",
    "a tag that runs code": "a: !!python/object/apply:os.getcwd []",
    "a wrong tag": "a: !!bool maybe",
    "an empty number": "a: 0x_",
    "half a character": r'a: "\ud800"',
    "a bell": "a: \x07",
    "two documents": "a: 1\n---\nb: 2",
    "a bracket": "a: [1",
}
ODD_JSON = {
    "deep": "[" * 100_000,
    "digits": '{"a": ' + "1" * 6_000 + "}",
    "no number": '{"a": NaN}',
    "a number too large": '{"a": 1e999}',
    "a key twice": '{"a": 1, "a": 2}',
    "half a character": r'{"a": "\ud800"}',
    "a bracket": "[1",
    "nothing": "",
}


def odd_places(folder: Path) -> dict[str, Path]:
    """Names at which no plain file lies."""
    names = ("pipe", "endless", "outside", "loop", "folder", "sparse", "latin")
    pipe, endless, outside, loop, inner, sparse, latin = (folder / name for name in names)
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    (folder / "secret").write_text("{}")
    outside.symlink_to(folder / "secret")
    loop.symlink_to(loop)
    inner.mkdir()
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    latin.write_bytes("{café: 1}".encode("latin-1"))
    return {path.name: path for path in (pipe, endless, outside, loop, inner, sparse, latin, folder / "none")}


@pytest.mark.parametrize("name", ODD_YAML)
def test_odd_yaml_is_one_line_within_a_second(tmp_path: Path, name: str):
    """Catches a bomb of aliases, a tag that runs code, and any other yaml that ends in a traceback."""
    path = tmp_path / "config.yaml"
    path.write_text(ODD_YAML[name])
    began = time.process_time()
    with pytest.raises(FileError, match=f"^{path}: no readable yaml: .") as caught:
        files.read_yaml(path)
    assert "\n" not in str(caught.value)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("name", ODD_JSON)
def test_odd_json_is_one_line(tmp_path: Path, name: str):
    """Catches a number of 6,000 digits, nesting and constants that end in a traceback, here or where they are used."""
    path = tmp_path / "run.json"
    path.write_text(ODD_JSON[name])
    with pytest.raises(FileError, match=f"^{path}: no readable JSON: .") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [files.read_json, files.read_yaml, lambda path: list(files.read_lines(path))])
def test_what_is_no_plain_file_is_neither_followed_nor_waited_for(tmp_path: Path, read):
    """Catches an open that waits for a pipe's writer, a read of an endless device, and a link out of the folder."""
    for name, path in odd_places(tmp_path).items():
        with pytest.raises(FileError, match=f"^{path}: ") as caught:
            read(path)
        assert ("link" in str(caught.value)) == (name in ("endless", "outside", "loop"))


def test_plain_data_comes_back_as_it_was_written(tmp_path: Path):
    """Catches a rule so strict that it refuses what dsac and people write: dates, aliases, emoji, floats."""
    path = tmp_path / "recipe.yaml"
    path.write_text("day: 2020-13-45\nsizes: &sizes [256, 256]\nalgo: {hidden: *sizes, rate: 3.0e-4, empty: null}\n")
    sizes = [256, 256]
    assert files.read_yaml(path) == {
        "day": "2020-13-45",
        "sizes": sizes,
        "algo": {"hidden": sizes, "rate": 3e-4, "empty": None},
    }
    path.write_text('{"name": "\\ud83d\\ude00", "seed": 340282366920938463463374607431768211455, "x": -1.5e-300}')
    assert files.read_json(path) == {"name": "😀", "seed": 2**128 - 1, "x": -1.5e-300}
    path.write_text("a,b\n1,2\n")
    assert list(files.read_lines(path)) == ["a,b", "1,2"]
