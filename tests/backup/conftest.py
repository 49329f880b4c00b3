"""Homes on both databases. A site is made once for all tests that only look at it or copy it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backup import site
from tests.backup.site import Home


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes an empty database."""
    made: list[str] = []

    def new() -> str:
        cluster = request.getfixturevalue("cluster")
        made.append(f"kura_{uuid.uuid4().hex}")
        cluster.execute(f"CREATE DATABASE {made[-1]}")
        return str(cluster.url(made[-1]))

    yield new
    for name in made:
        request.getfixturevalue("cluster").execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def model_site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    home = Home(tmp_path_factory.mktemp("model"))
    return home.folder, site.make(home)


@pytest.fixture
def home(model_site: tuple[Path, dict[str, str]], tmp_path: Path) -> Home:
    """A site on SQLite, this test's own, without any backup yet."""
    folder, _ = model_site
    made = Home(tmp_path / "蔵")
    shutil.copytree(folder, made.folder)
    config = made.data / "kura.toml"
    config.write_text(config.read_text("utf-8").replace(str(folder), str(made.folder)), "utf-8")
    return made


@pytest.fixture
def secrets(model_site: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return model_site[1]
