"""Loaders as LangChain has them: a class with `lazy_load`, whose documents have a text and metadata."""

from __future__ import annotations

import json
import socket
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(eq=False)
class Document:
    page_content: object
    metadata: dict[str, Any] = field(default_factory=dict)


class Notices:
    """The lines of a file, JSON each. `key` opens it; without the right one it says what it was given."""

    def __init__(self, path: str, key: str = "", fail_at: int = -1) -> None:
        if key and key != "himitsu/0451 x":
            raise ValueError(f"wrong key {key} in https://h/?key={key.replace('/', '%2F')}")
        self._path, self._key, self._fail_at = Path(path), key, fail_at

    def lazy_load(self) -> Iterator[Document]:
        for number, line in enumerate(self._path.read_text("utf-8").splitlines()):
            if number == self._fail_at:
                raise ConnectionError(f"gone, with {self._key}")
            said = json.loads(line)
            yield Document(said.pop("text"), said)


class Endless:
    """Many documents; how many of them are alive at once is what it counts."""

    most = 0

    def __init__(self, documents: int) -> None:
        self._documents = documents

    def lazy_load(self) -> Iterator[Document]:
        alive: weakref.WeakSet[Document] = weakref.WeakSet()
        for number in range(self._documents):
            one = Document("x" * 1000, {"source": f"/n/{number}"})
            alive.add(one)
            type(self).most = max(type(self).most, len(alive))
            yield one


class Caller:
    def __init__(self, address: str, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s

    def lazy_load(self) -> Iterator[Document]:
        socket.create_connection((self._address, 443), self._timeout_s).close()
        yield Document("")


class NoLoader:
    pass
