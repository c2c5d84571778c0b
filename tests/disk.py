"""A disk that forgets: each call of `os` that changes files below a folder is recorded, and every tree that a power cut
may leave of it is built up again.

The model is POSIX, not a kind file system: a file's content is safe once it was flushed, a name once its folder was;
until then any part may be lost, whatever came later.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

MOST_FREE_CHOICES = 4


class Killed(BaseException):
    """The process ends here."""


@dataclass
class File:
    """What was written, and what of it was flushed."""

    content: bytes = b""
    safe: bytes = b""

    def versions(self) -> list[bytes]:
        """What may be found: what was flushed, half of what came then, all."""
        half = self.content[: (len(self.safe) + len(self.content)) // 2]
        return list(dict.fromkeys((self.safe, half, self.content)))

    def flush(self) -> None:
        self.safe = self.content


@dataclass
class Folder:
    """Names bound to numbers of nodes, those that were flushed, and the changes since, each in one piece."""

    names: dict[str, int] = field(default_factory=dict)
    safe: dict[str, int] = field(default_factory=dict)
    pending: list[dict[str, int | None]] = field(default_factory=list)

    def change(self, **names: int | None) -> None:
        """A call that binds names, or frees them (None)."""
        self.pending.append(names)
        self.names = changed(self.names, [names])

    def versions(self) -> list[dict[str, int]]:
        """What may be found: any choice of the pending changes; of many, each beginning, and all but each one."""
        count = len(self.pending)
        if count <= MOST_FREE_CHOICES:
            chosen = [list(itertools.compress(self.pending, mask)) for mask in itertools.product((0, 1), repeat=count)]
        else:
            chosen = [self.pending[:end] for end in range(count + 1)]
            chosen += [self.pending[:lost] + self.pending[lost + 1 :] for lost in range(count)]
        found = [changed(self.safe, changes) for changes in chosen]
        return [names for index, names in enumerate(found) if names not in found[:index]]

    def flush(self) -> None:
        self.safe, self.pending = self.names, []


def changed(names: Mapping[str, int], changes: list[dict[str, int | None]]) -> dict[str, int]:
    """Names after changes."""
    found: dict[str, int | None] = dict(names)
    for change in changes:
        found |= change
    return {name: node for name, node in found.items() if node is not None}


class Disk:
    """Records what is written below the empty folder `root` within `with disk:`.

    calls    what was done so far: "create step-1/state.json", "write ...", "fsync", "close", "rename", "mkdir", ...
    before   called with each before it is done; may raise Killed, or OSError as a disk would
    after    called with each once it is done
    piece    most bytes that one write takes: whoever does not write on loses the rest
    """

    def __init__(self, root: Path, piece: int = 1 << 30, thorough: bool = False) -> None:
        self.root, self.piece, self.thorough = root.absolute(), piece, thorough
        self.nodes: list[File | Folder] = [Folder()]
        self.calls: list[str] = []
        self.bytes_written = 0
        self.before: Callable[[str], None] = lambda call: None
        self.after: Callable[[str], None] = lambda call: None
        self.opened: dict[int, tuple[int, Path]] = {}
        self.lock = threading.RLock()
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> Disk:
        self.real = {name: getattr(os, name) for name in ("open", "write", "fsync", "close")}
        for name in self.real:
            self.patch.setattr(os, name, getattr(self, name))
        for name in ("rename", "replace", "mkdir", "unlink", "rmdir"):
            self.patch.setattr(os, name, self.naming(name, getattr(os, name)))
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def inside(self, path: Any) -> Path | None:
        """The path, if it is the root or below it."""
        whole = Path(path).absolute() if isinstance(path, str | os.PathLike) else None
        return whole if whole is not None and whole.is_relative_to(self.root) else None

    def find(self, path: Path) -> int | None:
        """The number of the node at a path."""
        number = 0
        for part in path.relative_to(self.root).parts:
            node = self.nodes[number]
            if not isinstance(node, Folder) or part not in node.names:
                return None
            number = node.names[part]
        return number

    def parent(self, path: Path) -> Folder:
        """The folder that a path lies in."""
        node = self.nodes[self.find(path.parent) or 0]
        assert isinstance(node, Folder)
        return node

    def new(self, node: File | Folder) -> int:
        """Number a node."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    def do(self, name: str, path: Path, act: Callable[[], Any], change: Callable[[Any], None]) -> Any:
        """Make a call, then the change to the model."""
        call = f"{name} {path.relative_to(self.root)}"
        self.before(call)
        result = act()
        change(result)
        self.calls.append(call)
        self.after(call)
        return result

    def open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:
        with self.lock:
            whole = self.inside(path)

            def act() -> int:
                descriptor: int = self.real["open"](path, flags, *rest, **options)
                self.opened.pop(descriptor, None)
                return descriptor

            def change(descriptor: int) -> None:
                assert whole is not None
                number = self.find(whole)
                if number is None:
                    number = self.new(File())
                    self.parent(whole).change(**{whole.name: number})
                elif flags & os.O_TRUNC:
                    self.nodes[number].content = b""
                self.opened[descriptor] = (number, whole)

            if whole is None:
                return act()
            if flags & (os.O_WRONLY | os.O_RDWR):
                return int(self.do("create", whole, act, change))
            descriptor = act()
            if (number := self.find(whole)) is not None:
                self.opened[descriptor] = (number, whole)
            return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        with self.lock:
            if descriptor not in self.opened:
                return int(self.real["write"](descriptor, data))
            number, path = self.opened[descriptor]
            taken = bytes(data[: self.piece])

            def change(count: int) -> None:
                self.nodes[number].content += taken[:count]
                self.bytes_written += count

            return int(self.do("write", path, lambda: self.real["write"](descriptor, taken), change))

    def fsync(self, descriptor: int) -> None:
        with self.lock:
            if descriptor not in self.opened:
                return self.real["fsync"](descriptor)
            number, path = self.opened[descriptor]
            return self.do("fsync", path, lambda: self.real["fsync"](descriptor), lambda _: self.nodes[number].flush())

    def close(self, descriptor: int) -> None:
        with self.lock:
            _, path = self.opened.pop(descriptor, (None, None))

            def act() -> None:
                self.real["close"](descriptor)

            if path is None:
                return act()
            try:
                return self.do("close", path, act, lambda _: None)
            except OSError:
                act()  # the descriptor is gone whatever close says
                raise

    def naming(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The patched form of a call that changes names."""

        def call(path: Any, *rest: Any, **options: Any) -> Any:
            whole = self.inside(path)
            target = self.inside(rest[0]) if name in ("rename", "replace") else whole
            if whole is None or target is None:
                return real(path, *rest, **options)
            assert target.parent == whole.parent, "a rename from folder to folder is no single change of either"

            def change(_: Any) -> None:
                folder = self.parent(whole)
                if name == "mkdir":
                    folder.change(**{whole.name: self.new(Folder())})
                elif target == whole:
                    folder.change(**{whole.name: None})
                else:
                    folder.change(**{whole.name: None, target.name: folder.names[whole.name]})

            with self.lock:
                return self.do(name, target, lambda: real(path, *rest, **options), change)

        return call

    def states(self) -> Iterator[dict[str, bytes | None]]:
        """Trees that a power cut may leave now: content by path, None for a folder. Some come twice.

        Every choice for one folder, while the others have lost all that was not flushed, or nothing; if `thorough`,
        every choice for all of them together.
        """
        loose = [number for number, node in enumerate(self.nodes) if isinstance(node, Folder) and node.pending]
        focuses = [set(loose)] if self.thorough else [{number} for number in loose] or [set()]
        for focus, kept, amount in itertools.product(focuses, (False, True), range(3)):
            # of the content that was not flushed: nothing, half, all; in all files alike
            yield from self.trees(0, "", partial(choices, focus, kept), amount)

    def trees(
        self, number: int, path: str, names_of: Callable[[int, Folder], list[dict[str, int]]], amount: int
    ) -> Iterator[dict[str, bytes | None]]:
        """The trees that may be found at a node."""
        node = self.nodes[number]
        if isinstance(node, File):
            versions = node.versions()
            yield {path: versions[min(amount, len(versions) - 1)]}
            return
        itself: dict[str, bytes | None] = {path: None} if path else {}
        for names in names_of(number, node):
            below = [
                self.trees(child, f"{path}/{name}" if path else name, names_of, amount)
                for name, child in sorted(names.items())
            ]
            for parts in itertools.product(*below):
                yield {key: value for part in (itself, *parts) for key, value in part.items()}


def choices(focus: set[int], kept: bool, number: int, folder: Folder) -> list[dict[str, int]]:
    """The names that a folder may hold: any version in focus, else the one that has kept everything, or nothing."""
    return folder.versions() if number in focus else [folder.names if kept else folder.safe]


def build(state: Mapping[str, bytes | None], root: Path) -> Path:
    """Make a tree real."""
    root.mkdir(parents=True)
    for path, content in state.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)
    return root


def full(call: str) -> None:
    """What a full disk answers."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call)
