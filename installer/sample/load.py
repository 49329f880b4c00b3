"""Puts the sample company into an installation: groups, accounts, one source. Safe to run again."""

from __future__ import annotations

import os
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from appliance.errors import Conflict
from appliance.identity import accounts
from appliance.settings import Settings
from appliance.store import examples, people, site, sources
from appliance.store.timing import Timing
from appliance.types import Principal

HERE = Path(__file__).resolve().parent
SOURCE = "蔵前精機 社内文書"
WORDS = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else


@dataclass(frozen=True)
class Account:
    user_id: str
    name: str
    title: str
    role: str
    password: str


@dataclass(frozen=True)
class Question:
    """What the demo asks, and what a right answer must show."""

    viewer: str
    question: str
    uri: str
    label: str
    answer: str


def load(engine: Engine, settings: Settings) -> list[Account]:
    """Make what is missing. Passwords are random, and kept where only this user reads them."""
    rows = company()
    known = passwords(settings)
    there = {user.id for user in people.users(engine)}
    made = []
    for user_id, row in rows["accounts"].items():
        password = known.get(user_id) or _password()
        known[user_id] = password
        made.append(Account(user_id, row["name"], row["title"], row["role"], password))
    _keep(settings, known)  # before the accounts: a crash between must not lock anybody out
    for account in made:
        if account.user_id not in there:
            accounts.create(
                engine,
                account.user_id,
                account.name,
                "administrator" if account.role == "administrator" else "member",
                account.password,
            )
    _groups(engine, rows)
    if site.get(engine, examples.KEY) is None:
        examples.replace(engine, rows["examples"])
    if sources.by_name(engine, SOURCE) is None:
        try:
            sources.create(engine, SOURCE, "folder", {"root": str(HERE / "files")}, Timing(30))
        except Conflict:
            return made  # another run of the demo was quicker
    return made


def company() -> dict[str, Any]:
    return tomllib.loads((HERE / "company.toml").read_text("utf-8"))


def question() -> Question:
    return Question(**company()["sample_question"])


def passwords(settings: Settings) -> dict[str, str]:
    path = settings.data / "sample-accounts.txt"
    if not path.is_file():
        return {}
    return dict(
        line.split("\t", 1) for line in path.read_text("utf-8").splitlines() if "\t" in line
    )


def _groups(engine: Engine, rows: dict[str, Any]) -> None:
    there = {group.name: group.members for group in people.groups(engine)}
    for name, row in rows["groups"].items():
        members = {Principal(f"group:{inner}") for inner in row.get("contains", ())}
        members |= {
            Principal(f"user:{u}") for u, a in rows["accounts"].items() if name in a["groups"]
        }
        if there.get(name, frozenset()) != members:
            accounts.set_group(engine, name, sorted(members))


def _keep(settings: Settings, known: dict[str, str]) -> None:
    path = settings.data / "sample-accounts.txt"
    fresh = path.with_suffix(".new")
    with open(fresh, "w", encoding="utf-8", opener=_private) as out:
        out.writelines(f"{user}\t{password}\n" for user, password in known.items())
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _password() -> str:
    """Fifteen of 31 signs: 74 bits."""
    return "-".join("".join(secrets.choice(WORDS) for _ in range(5)) for _ in range(3))
