"""A database of PostgreSQL that is copied, brought near, and changes places with its copy."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from appliance.errors import Conflict, SettingsError
from appliance.release import schemas
from appliance.settings import Settings
from appliance.store import audit, database, people, sources, transfer
from tests.conftest import Cluster

pytestmark = pytest.mark.postgres

NEXT, BEFORE = "public_next", "public_before_1.0.0"


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """Of a database whose role owns it, and may do nothing else."""
    name = f"kura_{uuid.uuid4().hex[:12]}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    cluster.execute(f"CREATE DATABASE {name} OWNER {name}")
    made = cluster.url(name).replace(f"//{cluster.user}@", f"//{name}@")
    engine = database.connect(made)
    database.migrate(engine)
    engine.dispose()
    yield made
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
    cluster.execute(f"DROP ROLE {name}")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = database.connect(url)
    people.create(made, "ito", "伊藤 健", "member")
    sources.create(made, "総務部", "folder", {"root": "/srv/規程"})
    audit.record(made, "ito", "question", {"問": "旅費"})
    yield made
    made.dispose()


def contents(engine: Engine, schema: str = "public") -> dict[str, Any]:
    """What is in it, to the byte, and the numbers it has given."""
    with engine.connect() as connection, schemas._within(connection, schema):
        tables = transfer.tables(sessions=True)
        found = {one.name: transfer.facts(connection, one) for one in tables}
        return {"rows": found, "counters": transfer.counters(connection, tables)}


def copied(engine: Engine) -> int:
    with engine.connect() as connection:
        revision = database.revision(connection)
    assert revision
    return schemas.copy(engine, NEXT, revision)


def there(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return {n for n in sa.inspect(connection).get_schema_names() if n.startswith("public")}


def test_a_role_that_owns_its_database_and_no_more_can_do_it_all(engine: Engine) -> None:
    assert schemas.lacks(engine)[:2] == ([], [])
    before = contents(engine)
    since = copied(engine)
    assert contents(engine, NEXT) == before
    people.create(engine, "sato", "佐藤", "admin")
    people.remove(engine, "ito")
    audit.record(engine, "sato", "question", {"問": "賃貸"})
    now = contents(engine)
    told = schemas.refresh(engine, NEXT, since)
    assert contents(engine, NEXT) == now != before
    assert contents(engine) == now
    with engine.begin() as connection:
        connection.exec_driver_sql(f'ALTER TABLE {NEXT}."user" ADD COLUMN newer int DEFAULT 7')
    assert schemas.exchange(engine, BEFORE, NEXT, told["sha256"])
    assert there(engine) == {"public", BEFORE}
    with engine.connect() as connection:
        assert connection.exec_driver_sql('SELECT newer FROM "user"').scalars().all() == [7]
    assert schemas.mark(engine, BEFORE) == {k: told[k] for k in ("sha256", "rows")}
    assert not schemas.exchange(engine, BEFORE, NEXT, told["sha256"])  # it is done
    sources.create(engine, "法務部", "folder", {"root": "/srv"})  # numbers go on
    assert schemas.exchange_back(engine, BEFORE, NEXT)
    assert not schemas.exchange_back(engine, BEFORE, NEXT)
    assert there(engine) == {"public", NEXT}
    assert contents(engine) == now and schemas.mark(engine)["sha256"] == told["sha256"]
    schemas.forget(engine, [NEXT, BEFORE])
    assert there(engine) == {"public"}


def test_every_kind_of_change_after_the_copy_is_brought_over(engine: Engine) -> None:
    for n in range(300):
        people.create(engine, f"u{n}", f"利用者 {n}", "member")
    since = copied(engine)
    with database.writing(engine) as session:
        for statement in (
            "UPDATE \"user\" SET display_name = display_name || '!' WHERE id LIKE 'u1%%'",
            "DELETE FROM \"user\" WHERE id LIKE 'u2%%'",
            'INSERT INTO "user" SELECT (jsonb_populate_record(u, \'{"id": "u2"}\')).* FROM "user" u'
            " WHERE id = 'u3'",  # an id that was there before, with other contents
        ):
            session.connection().exec_driver_sql(statement)
    schemas.refresh(engine, NEXT, since)
    assert contents(engine, NEXT) == contents(engine)


def test_numbers_of_transactions_go_round(engine: Engine) -> None:
    """Rows are told by 32 of 64 bits: whatever epoch it is, none that was written since is missed."""
    since = copied(engine)
    people.create(engine, "sato", "佐藤", "admin")
    schemas.refresh(engine, NEXT, since + 5 * 2**32)
    assert contents(engine, NEXT) == contents(engine)


def test_a_transaction_that_was_under_way_at_the_copy_is_not_missed(engine: Engine) -> None:
    with engine.connect() as slow:
        slow.exec_driver_sql("UPDATE \"user\" SET display_name = '途中' WHERE id = 'ito'")
        since = copied(engine)
        slow.commit()
    schemas.refresh(engine, NEXT, since)
    assert contents(engine, NEXT) == contents(engine)


def test_who_writes_after_the_last_look_stops_the_exchange(engine: Engine) -> None:
    told = schemas.refresh(engine, NEXT, copied(engine))
    people.create(engine, "late", "遅れて", "member")
    with pytest.raises(Conflict, match="書き込みがありました"):
        schemas.exchange(engine, BEFORE, NEXT, told["sha256"])
    assert there(engine) == {"public", NEXT}


def test_an_exchange_whose_end_is_not_known_is_waited_for(engine: Engine) -> None:
    """A process was killed, and its transaction still runs on the server."""
    copied(engine)
    with engine.connect() as killed:
        schemas._alone(killed)
        schemas._shift(killed, "public", BEFORE)
        schemas._empty(killed, NEXT, "public")
        found: list[bool] = []
        recover = threading.Thread(
            target=lambda: found.append(schemas.exchange_back(engine, BEFORE, NEXT))
        )
        recover.start()
        recover.join(0.3)
        assert recover.is_alive()
        killed.commit()
    recover.join(20)
    assert found == [True] and there(engine) == {"public", NEXT}


def test_what_the_role_must_be_given_is_said_as_sql(url: str, cluster: Cluster) -> None:
    name = url.split("//")[1].split("@")[0]
    cluster.execute(f"ALTER DATABASE {name} OWNER TO {cluster.user}")
    cluster.execute(f'ALTER TABLE "user" OWNER TO {cluster.user}', name)
    cluster.execute(f"GRANT USAGE ON SCHEMA public TO {name}", name)
    engine = database.connect(url)
    wanted, _, _ = schemas.lacks(engine)
    assert [one.split(" ON ")[0] for one in wanted[:2]] == ["GRANT CREATE", "GRANT CREATE"]
    assert wanted[2].startswith('ALTER TABLE "public"."user" OWNER TO')
    for statement in wanted:
        cluster.execute(statement, name)
    assert schemas.lacks(engine)[0] == []
    copied(engine)
    assert schemas.exchange(engine, BEFORE, NEXT)
    engine.dispose()
    cluster.execute(f"REASSIGN OWNED BY {name} TO {cluster.user}", name)
    cluster.execute(f"DROP OWNED BY {name}", name)


def test_what_is_not_kuras_is_named(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE 勤怠 (id int)")
        connection.exec_driver_sql('CREATE VIEW people AS SELECT id FROM "user"')
    assert schemas.lacks(engine)[1] == ["people", "勤怠"]


def test_only_copies_are_forgotten(engine: Engine) -> None:
    with pytest.raises(Conflict, match="写しではありません"):
        schemas.forget(engine, ["public"])
    assert there(engine) == {"public"}


def test_a_schema_is_looked_at_alone(engine: Engine, url: str) -> None:
    copied(engine)
    settings = Settings(database_url=url, database_schema=NEXT)
    beside = database.connect(settings.database_url)
    people.create(beside, "only-there", "写し", "member")
    assert {one.id for one in people.users(beside)} == {"ito", "only-there"}
    assert {one.id for one in people.users(engine)} == {"ito"}
    assert Settings(database_url=settings.database_url, database_schema=NEXT) == settings
    own = f"{url}&options=-csearch_path%3Dpublic"
    other = database.connect(Settings(database_url=own, database_schema=NEXT).database_url)
    assert len(people.users(other)) == 2
    for one in (beside, other):
        one.dispose()
    with pytest.raises(SettingsError):
        Settings(database_url=url, database_schema='x";')
