"""What every test may ask for: an empty database of either kind, real and of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine
from sqlmodel import SQLModel

from appliance.store import database


def pytest_configure() -> None:
    """What is run in the background ignores Ctrl-C, and so would every process that a test interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Cluster:
    """A private PostgreSQL server; `socket` is its folder."""

    socket: Path
    user: str
    shared: str = "kura"  # a migrated database, emptied before each test

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://{self.user}@/{name}?host={self.socket}"

    def execute(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(
            host=str(self.socket), user=self.user, dbname=name, autocommit=True
        ) as connection:
            connection.execute(statement)

    def empty(self) -> None:
        names = ", ".join(f'"{name}"' for name in SQLModel.metadata.tables)
        self.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE", self.shared)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    folder = Path(tempfile.mkdtemp(prefix="kura-pg-"))  # pytest's own is closed to others
    os.chown(folder, account.pw_uid, account.pw_gid)
    who = {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}
    data = folder / "data"
    options = (
        f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=200 "
        "-c shared_buffers=32MB -c jit=off"
    )
    init = ["-D", data, "-A", "trust", "-U", account.pw_name, "-E", "UTF8", "--no-sync"]
    start = ["-D", data, "-l", folder / "log", "-o", options, "-w", "start"]
    for argv in ([_program("initdb"), "--locale=C.UTF-8", *init], [_program("pg_ctl"), *start]):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)
    try:
        made = Cluster(folder, account.pw_name)
        made.execute(f"CREATE DATABASE {made.shared}")
        engine = database.connect(made.url(made.shared))
        database.migrate(engine)
        engine.dispose()
        yield made
    finally:
        stop = [_program("pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "kura.db"
    engine = database.connect(f"sqlite:///{path}")
    database.migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database: each test that asks runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "kura.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    cluster.empty()
    yield cluster.url(cluster.shared)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = f"kura_{uuid.uuid4().hex}"
    cluster.execute(f"CREATE DATABASE {name}")
    yield cluster.url(name)
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = database.connect(database_url)
    yield made
    made.dispose()


@pytest.fixture
def sqlite_engine(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    """For tests of what lies above the store: one database is enough there."""
    path = tmp_path / "kura.db"
    shutil.copy(sqlite_template, path)
    made = database.connect(f"sqlite:///{path}")
    yield made
    made.dispose()


def _program(name: str) -> str:
    """PostgreSQL's programs lie outside PATH on Debian."""
    places = [str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        pytest.fail(f"{name} is not installed; `make test` installs PostgreSQL")
    return found
