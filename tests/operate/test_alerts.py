"""From something wrong to one message, and from its end to another: never two, never a storm."""

from __future__ import annotations

import json
import multiprocessing
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from appliance import build
from appliance.backup import schedule
from appliance.errors import Conflict
from appliance.operate import alerts, destinations, rules
from appliance.operate.rules import RULES, Finding, Look, Rule
from appliance.settings import Settings
from appliance.store import alerts as kept
from appliance.store import audit, database, maintenance, secrets, sources
from appliance.store.alerts import State
from appliance.types import Site
from tests.fakes import receivers
from tests.fakes.certificates import certificate

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = Rule("disk", "ディスク", lambda look: iter(()), after_s=60)


class Clock:
    """A state and its time; `at` says what is wrong then, and gives what is told."""

    def __init__(self) -> None:
        self.state = State()

    def at(self, minutes: float, *wrong: str, severity: kept.Severity = "warning") -> list[str]:
        found = {key: (RULE, Finding(key, f"{key}が悪い", severity)) for key in wrong}
        moment = NOW + timedelta(minutes=minutes)
        told = alerts.advance(self.state, found, set(), moment, DAY)
        return [f"{event.kind} {event.key}" for event in told]


# --- when it is told ------------------------------------------------------------------


def test_one_when_it_begins_and_one_when_it_ends() -> None:
    clock = Clock()
    assert clock.at(0, "a") == []  # it may pass
    assert clock.at(1, "a") == ["begin a"]
    assert [clock.at(m, "a") for m in range(2, 600, 7)] == [[]] * 86
    assert clock.at(600) == []  # it may come back
    assert clock.at(604.9) == []
    assert clock.at(605) == ["end a"]
    assert clock.at(606) == [] and clock.state.open == {}


def test_what_passes_or_flaps_is_not_told_again() -> None:
    clock = Clock()
    assert clock.at(0, "a") + clock.at(0.5) + clock.at(0.6, "a") + clock.at(1.5, "a") == []
    assert clock.at(1.6, "a") == ["begin a"]
    told = [clock.at(2 + m, *(["a"] if m % 2 else [])) for m in range(200)]
    assert not any(told)


def test_again_once_a_day_and_at_once_where_it_gets_worse() -> None:
    clock = Clock()
    clock.at(0, "a")
    clock.at(1, "a")
    assert clock.at(1440, "a") == [] and clock.at(1441, "a") == ["again a"]
    assert clock.at(1442, "a", severity="critical") == ["again a"]
    assert clock.at(1443, "a", severity="critical") == []


def test_a_rule_that_cannot_find_out_changes_nothing() -> None:
    clock = Clock()
    clock.at(0, "a")
    clock.at(1, "a")
    for m in (2, 10, 30):
        moment = NOW + timedelta(minutes=m)
        assert alerts.advance(clock.state, {}, {"disk"}, moment, DAY) == []
    assert "a" in clock.state.open


# --- what is found --------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return Settings(data=data, time_zone="Asia/Tokyo", web_port=1)


def found(engine: Engine, settings: Settings, **more: object) -> dict[str, Finding]:
    look = Look(engine, settings)
    for name, value in more.items():
        setattr(look, name, value)
    wrong, unsure = alerts.findings(look)
    assert unsure == set() or maintenance.state(engine)
    return {key: finding for key, (_, finding) in wrong.items()}


def test_a_machine_that_is_down_is_found_and_maintenance_is_none(
    sqlite_engine: Engine, settings: Settings
) -> None:
    assert set(found(sqlite_engine, settings)) == {"model", "web"}
    maintenance.begin(sqlite_engine, "更新", datetime.now(UTC) + DAY, "console:root")
    assert set(found(sqlite_engine, settings)) == set()
    maintenance.begin(sqlite_engine, "更新", datetime.now(UTC) - DAY, "console:root")
    assert set(found(sqlite_engine, settings)) == {"maintenance"}


def test_a_model_server_of_the_company_is_watched_beside_our_own(
    sqlite_engine: Engine, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    there = replace(settings, generator_url=f"http://127.0.0.1:{port}/v1")
    wrong = found(sqlite_engine, there)
    assert set(wrong) == {"model", "model:generator", "web"}
    assert f"127.0.0.1:{port}" in wrong["model:generator"].said
    assert "kura infer" in wrong["model"].said  # it embeds the questions all the same


def test_what_is_wrong_with_sources_names_no_document(
    sqlite_engine: Engine, settings: Settings
) -> None:
    one = sources.create(sqlite_engine, "総務部", "memory", {})
    long_ago = datetime.now(UTC) - 2 * DAY
    secret = "秘密.txt に『極秘』とあり読めません"
    assert sources.lease(sqlite_engine, "w", 60.0, None, settings.zone)
    sources.release(sqlite_engine, one.id, "w", long_ago, problem=secret, failures=3)
    sources.hold(sqlite_engine, one.id, long_ago)
    sources.set_held(sqlite_engine, one.id, sources.Held(95, 100))
    wrong = found(sqlite_engine, settings)
    kinds = ("source-failing", "source-withheld", "source-held", "queue:source")
    assert {f"{kind}:{one.id}" for kind in kinds} <= set(wrong)
    assert all("総務部" in wrong[f"{kind}:{one.id}"].said for kind in kinds)
    assert not any("秘密" in finding.said or "極秘" in finding.said for finding in wrong.values())


def test_disk_backups_certificates_and_the_chain(
    sqlite_engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    soon, past, good = (certificate(tmp_path, days=d).cert for d in (20, -2, 300))
    (tmp_path / "odd.pem").write_text("nichts")
    backups = tmp_path / "backups"
    backups.mkdir()
    files = ",".join(map(str, (soon, past, good, tmp_path / "odd.pem")))
    settings = Settings(
        data=settings.data,
        web_port=1,
        alert_free_bytes=2**62,
        backup_folder=backups,
        alert_certificates=files,
    )
    schedule.note(sqlite_engine, schedule.TRIED, False, "共有に書けません")
    schedule.note(sqlite_engine, schedule.LAST, True, "x")
    schedule.note(sqlite_engine, schedule.FIRST, True, "x")
    for n in range(3):
        audit.record(sqlite_engine, "console:root", "test", {"n": n})
    with sqlite_engine.begin() as raw:
        raw.execute(text("UPDATE audit SET detail = '{}' WHERE sequence = 2"))
    wrong = found(sqlite_engine, settings, moment=datetime.now(UTC) + 0 * DAY)
    assert {"disk:data", "disk:backup", "backup-missing", "audit"} <= set(wrong)
    assert "2 番" in wrong["audit"].said and "共有に書けません" in wrong["backup-missing"].said
    ends = {k: f.severity for k, f in wrong.items() if k.startswith("certificate:")}
    assert ends == {
        f"certificate:{soon}": "warning",
        f"certificate:{past}": "critical",
        f"certificate:{tmp_path / 'odd.pem'}": "warning",
    }
    later = datetime.now(UTC) + 36 * DAY
    assert "backup-unverified" in found(sqlite_engine, settings, moment=later)
    schedule.verified(sqlite_engine, "x", "")
    assert "backup-unverified" not in found(sqlite_engine, settings, moment=datetime.now(UTC))
    schedule.verified(sqlite_engine, "x", "部品が違います")
    assert wrong.keys() < found(sqlite_engine, settings).keys()


def test_every_rule_has_a_name_of_its_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


# --- how it arrives -------------------------------------------------------------------


@pytest.fixture
def posts() -> Iterator[receivers.Posts]:
    with receivers.hooks() as made:
        yield made


def hooked(settings: Settings, posts: receivers.Posts, **more: object) -> tuple[Settings, Site]:
    url = f"http://localhost:{posts.port}/in"
    made = Settings(
        data=settings.data,
        web_port=1,
        alert_webhook_url=url,
        alert_webhook_secret="geheim-geheim-geheim",
        near_hosts=f"localhost:{posts.port}",
        **more,  # type: ignore[arg-type]
    )
    return made, build.site(made)


def told(posts: receivers.Posts) -> list[list[str]]:
    bodies = [json.loads(body) for _, _, body in posts.got]
    return [[f"{e['kind']} {e['key']}" for e in body["events"]] for body in bodies]


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of what is wrong now."""
    keys: list[str] = []
    rule = Rule("any", "試", lambda look: (Finding(k, f"{k}が悪い") for k in keys))
    monkeypatch.setattr(
        alerts, "findings", lambda look: ({f.key: (rule, f) for f in rule.find(look)}, set())
    )
    monkeypatch.setattr(alerts, "CALM", timedelta(0))
    monkeypatch.setattr(alerts, "GAP", timedelta(0))
    monkeypatch.setattr(alerts, "FIRST_PAUSE_S", 0.0)
    return keys


def test_all_that_begins_at_once_is_one_message(
    database_url: str, settings: Settings, posts: receivers.Posts, wrong: list[str]
) -> None:
    engine = database.connect(database_url)
    made, site = hooked(settings, posts)
    stop = threading.Event()
    wrong += [f"source:{n}" for n in range(60)]
    for _ in range(5):
        assert alerts.once(Look(engine, made), site, "w1", stop)
    assert [len(one) for one in told(posts)] == [50, 10]
    wrong.clear()
    for _ in range(5):
        alerts.once(Look(engine, made), site, "w1", stop)
    assert [len(one) for one in told(posts)] == [50, 10, 50, 10]
    assert all(event.startswith("end ") for event in told(posts)[2])
    engine.dispose()


def test_no_more_than_so_many_messages_an_hour(
    sqlite_engine: Engine, settings: Settings, posts: receivers.Posts, wrong: list[str]
) -> None:
    made, site = hooked(settings, posts)
    for n in range(40):
        wrong[:] = [f"odd:{n}"]
        alerts.once(Look(sqlite_engine, made), site, "w1", threading.Event())
    assert len(posts.got) == alerts.MOST_AN_HOUR


def test_a_message_survives_a_server_that_is_away_and_a_restart(
    sqlite_engine: Engine,
    settings: Settings,
    posts: receivers.Posts,
    wrong: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.http.ATTEMPTS", 1)
    made, site = hooked(settings, posts)
    posts.answer = lambda path: (500, {})
    wrong.append("a")
    alerts.once(Look(sqlite_engine, made), site, "w1", threading.Event())
    box = kept.read(sqlite_engine).outboxes["webhook"]
    assert box.failures == 1 and "500" in box.problem and len(box.sending) == 1
    wrong.clear()  # it ends while nobody can be told
    posts.answer = lambda path: (204, {})
    kept.release(sqlite_engine, "w1")
    for _ in range(4):  # another process
        alerts.once(Look(sqlite_engine, made), site, "w2", threading.Event())
    assert told(posts) == [["begin a"], ["begin a"], ["end a"]]
    first, second = (headers["x-kura-delivery"] for _, headers, _ in posts.got[:2])
    assert first == second
    assert kept.read(sqlite_engine).outboxes["webhook"].problem == ""


def test_one_that_dies_while_it_sends_has_its_message_sent_under_the_same_number(
    sqlite_engine: Engine, settings: Settings, posts: receivers.Posts, wrong: list[str]
) -> None:
    made, site = hooked(settings, posts)
    wrong.append("a")

    class Killed(BaseException): ...

    class Dying:
        def send(self, message: object) -> None:
            raise Killed

    real = destinations.channels
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(destinations, "channels", lambda *_: ({"webhook": Dying()}, {}))
        alerts.once(Look(sqlite_engine, made), site, "w1", threading.Event())
    number = kept.read(sqlite_engine).outboxes["webhook"].delivery
    assert not alerts.once(Look(sqlite_engine, made), site, "w2", threading.Event())  # not yet
    assert destinations.channels is real
    kept.release(sqlite_engine, "w1")  # as the lease running out does
    alerts.once(Look(sqlite_engine, made), site, "w2", threading.Event())
    assert told(posts) == [["begin a"]] and posts.got[0][1]["x-kura-delivery"] == number


def _work(settings: Settings, site: Site, url: str, go: threading.Event, name: str) -> None:
    engine = database.connect(url)
    go.wait()
    for _ in range(10):
        try:
            alerts.once(Look(engine, settings), site, name, threading.Event())
        except Conflict:
            continue
    engine.dispose()


def test_workers_side_by_side_tell_it_once(
    database_url: str, settings: Settings, posts: receivers.Posts, wrong: list[str]
) -> None:
    made, site = hooked(settings, posts)
    wrong.append("a")
    fork = multiprocessing.get_context("fork")
    go = fork.Event()
    workers = [
        fork.Process(target=_work, args=(made, site, database_url, go, f"w{n}")) for n in range(3)
    ]
    for one in workers:
        one.start()
    go.set()
    for one in workers:
        one.join(60)
        assert one.exitcode == 0
    assert told(posts) == [["begin a"]]


def test_who_lost_the_lease_saves_nothing(sqlite_engine: Engine) -> None:
    assert kept.lease(sqlite_engine, "w1", 0.0)
    assert kept.lease(sqlite_engine, "w2", 60.0)
    with pytest.raises(Conflict):
        kept.save(sqlite_engine, "w1", State())


def test_settings_of_an_administrator_are_sealed_and_the_file_goes_before_them(
    sqlite_engine: Engine, settings: Settings, posts: receivers.Posts
) -> None:
    ring = secrets.keyring(settings.secrets_key)
    given = {"webhook_url": "https://chat.example/in", "webhook_secret": "KANARIA-KANARIA-1"}
    kept.set_destinations(sqlite_engine, given, ring)
    with sqlite_engine.connect() as raw:
        assert "KANARIA" not in str(raw.execute(text("SELECT * FROM site")).all())
    site = build.site(settings)
    chosen = destinations.chosen(sqlite_engine, settings, site)
    assert (chosen.webhook_url, chosen.webhook_secret) == tuple(given.values())
    made, site = hooked(settings, posts)
    assert "localhost" in destinations.chosen(sqlite_engine, made, site).webhook_url


def test_a_way_that_cannot_be_used_is_told_by_the_others(
    sqlite_engine: Engine,
    settings: Settings,
    posts: receivers.Posts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "RULES", [r for r in RULES if r.name == "channel"])
    monkeypatch.setattr(alerts, "RULES", rules.RULES)
    made, site = hooked(settings, posts, alert_syslog="gopher://x:1")
    look = Look(sqlite_engine, made)
    wrong, _ = alerts.findings(look, rules.RULES)
    assert wrong == {}
    ways, broken = destinations.channels(sqlite_engine, made, site)
    assert set(ways) == {"webhook"} and "syslog" in broken["syslog"]
    alerts.once(look, site, "w1", threading.Event())
    assert told(posts) == [["begin channel:syslog"]]


@pytest.mark.parametrize(
    "bad",
    [
        {"mail_server": "mail"},
        {"mail_server": "mail:25", "mail_from": "a@b.example", "mail_to": ""},
        {"mail_server": "mail:25", "mail_from": "a@b.example\nBcc: x@y", "mail_to": "a@b.example"},
        {
            "mail_server": "m:25",
            "mail_from": "a@b",
            "mail_to": "a@b",
            "mail_security": "none",
            "mail_user": "u",
            "mail_password": "p",
        },
        {"webhook_url": "ftp://x", "webhook_secret": "s" * 16},
        {"webhook_url": "https://u:p@x/", "webhook_secret": "s" * 16},
        {"webhook_url": "https://x/", "webhook_secret": "short"},
        {"syslog": "udp://x"},
        {"syslog": "x:514"},
        {"nonsense": "x"},
    ],
)
def test_what_cannot_be_used_is_refused(bad: dict[str, str]) -> None:
    from appliance.errors import BadRequest

    with pytest.raises(BadRequest):
        destinations.checked(bad)
