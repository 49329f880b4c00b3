"""A real sandbox, and a way to put bytes through it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.types import NOBODY, Document, RawFile

Parse = Callable[[bytes, str], Document]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    settings = Settings(data=tmp_path_factory.mktemp("data"), parse_seconds=20)
    with Sandbox(settings) as sandbox:
        yield sandbox


@pytest.fixture
def raw() -> Callable[..., RawFile]:
    def make(data: bytes, name: str = "file.txt") -> RawFile:
        opened = partial(io.BytesIO, data)
        return RawFile(name, "1", opened, NOBODY, name, datetime(2026, 4, 1, tzinfo=UTC))

    return make


@pytest.fixture
def parse(sandbox: Sandbox, raw: Callable[..., RawFile]) -> Parse:
    """Bytes and a name to a document, the whole way through the sandbox."""
    return lambda data, name: sandbox.parse(raw(data, name))[0]


@pytest.fixture
def corpus() -> Path:
    return Path(__file__).parents[1] / "corpus"
