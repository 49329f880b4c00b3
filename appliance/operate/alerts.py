"""Alerts: one when something begins, one when it ends, one now and then while it lasts.

    look → what is wrong → events → an outbox for each way → one message with all of them

State is saved before anything is sent and after, so a crash loses nothing; what was under way is
sent again under the same number. Only who holds the lease sends.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Engine

from appliance.errors import ApplianceError, Conflict
from appliance.operate import destinations
from appliance.operate.channels import Channel, Message
from appliance.operate.rules import FAILED_RUNS, RULES, Finding, Look, Rule
from appliance.store import alerts, maintenance
from appliance.store.alerts import Event, Kind, Open, Outbox, State
from appliance.store.tables import now
from appliance.types import Site

log = logging.getLogger(__name__)

LEASE_S = 120.0
EVERY_S = 15.0  # one look after another
CALM = timedelta(minutes=5)  # it must be well for so long to be over
GAP = timedelta(minutes=1)  # between two messages of one way
AN_HOUR, MOST_AN_HOUR = timedelta(hours=1), 10
MOST_EVENTS = 50  # in one message; the rest waits for the next
KEPT_EVENTS = 500
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 3600.0


def run(look: Look, site: Site, owner: str, stop: threading.Event) -> None:
    """The whole of it, until `stop` is set."""
    while not stop.is_set():
        try:
            once(look, site, owner, stop)
        except Conflict:
            log.info("another worker looks after the alerts")
        except ApplianceError as error:
            log.warning("alerts wait: %s", error)
        except Exception:
            log.exception("alerts go on after an error of their own")
        stop.wait(EVERY_S)
    try:
        alerts.release(look.engine, owner)
    except ApplianceError as error:
        log.warning("the lease of the alerts runs out by itself: %s", error)


def once(look: Look, site: Site, owner: str, stop: threading.Event) -> bool:
    """One look, and what follows from it. False while another worker looks after it."""
    if not alerts.lease(look.engine, owner, LEASE_S):
        return False
    with _held(look.engine, owner):
        ways, broken = destinations.channels(look.engine, look.settings, site)
        state = alerts.read(look.engine)
        for name, why in broken.items():
            box = state.outboxes.setdefault(name, Outbox())
            box.problem, box.failures = why, max(box.failures, FAILED_RUNS)
        look.state, look.moment = state, now()
        found, unsure = findings(look)
        repeat = timedelta(hours=look.settings.alert_repeat_hours)
        told = advance(state, found, unsure, look.moment, repeat)
        if alerts.wants_test(look.engine):
            told.append(test(look.moment))
            for box in state.outboxes.values():
                box.next_at = None
        state.outboxes = {n: b for n, b in state.outboxes.items() if n in ways or n in broken}
        _put(state, ways, told)
        state.looked_at = look.moment
        alerts.save(look.engine, owner, state)
        alerts.tested(look.engine)
        for name, way in ways.items():
            if not stop.is_set():
                deliver(look, owner, state, name, way)
    return True


def test(moment: datetime) -> Event:
    said = "通知の試験です。このメッセージが届けば、通知は働いています。"
    return Event("test", "test", "warning", "通知の試験", said, moment, moment)


# --- what is wrong ------------------------------------------------------------------


def findings(
    look: Look, rules: Sequence[Rule] = RULES
) -> tuple[dict[str, tuple[Rule, Finding]], set[str]]:
    """What is wrong now, by its key, and the rules that could not find out."""
    found: dict[str, tuple[Rule, Finding]] = {}
    unsure: set[str] = set()
    closed = maintenance.state(look.engine) is not None
    for rule in rules:
        if closed and rule.at_work:
            unsure.add(rule.name)
            continue
        try:
            found |= {one.key: (rule, one) for one in rule.find(look)}
        except Exception as error:  # noqa: BLE001 - one rule never stops the others
            log.warning("alert %s cannot be judged: %s", rule.name, type(error).__name__)
            unsure.add(rule.name)
    return found, unsure


def advance(
    state: State,
    found: Mapping[str, tuple[Rule, Finding]],
    unsure: set[str],
    moment: datetime,
    repeat: timedelta,
) -> list[Event]:
    """What people are told of what is, against what was."""
    told: list[Event] = []

    def tell(kind: Kind, key: str, one: Open) -> None:
        since = one.since
        told.append(Event(kind, key, one.severity, one.title, one.said, since, moment))

    for key, (rule, finding) in found.items():
        one = state.open.get(key)
        if one is None:
            one = Open(rule.name, finding.severity, rule.title, finding.said, moment)
            state.open[key] = one
        worse = finding.severity == "critical" and one.severity == "warning"
        one.said, one.severity, one.well_since = finding.said, finding.severity, None
        if one.told_at is None:
            if moment - one.since >= timedelta(seconds=rule.after_s):
                one.told_at, one.again_at = moment, moment + repeat
                tell("begin", key, one)
        elif worse or (repeat and one.again_at and one.again_at <= moment):
            one.again_at = moment + repeat
            tell("again", key, one)
    for key, one in list(state.open.items()):
        if key in found or one.rule in unsure:
            continue
        if one.told_at is None:
            del state.open[key]
        elif one.well_since is None:
            one.well_since = moment
        elif moment - one.well_since >= CALM:
            tell("end", key, one)
            del state.open[key]
    return told


def _put(state: State, ways: Mapping[str, Channel], told: Sequence[Event]) -> None:
    """Into the outbox of each way, an event a key: what nobody heard of begins and ends in one."""
    for name in ways:
        box = state.outboxes.setdefault(name, Outbox())
        waiting = {event.key: event for event in box.waiting}
        for event in told:
            before = waiting.pop(event.key, None)
            if before and before.kind in ("begin", "over"):
                kind: Kind = "over" if event.kind == "end" else "begin"
                event = replace(event, kind=kind, since=before.since)
            waiting[event.key] = event
        box.waiting = list(waiting.values())[-KEPT_EVENTS:]


# --- telling it -----------------------------------------------------------------------


def deliver(look: Look, owner: str, state: State, name: str, way: Channel) -> None:
    """One message by one way, if there is something to tell and it is time."""
    box, moment = state.outboxes[name], now()
    if box.next_at and box.next_at > moment:
        return
    if not box.sending:
        if not box.waiting or not _may(box, moment):
            return
        box.sending, box.waiting = box.waiting[:MOST_EVENTS], box.waiting[MOST_EVENTS:]
        box.delivery = secrets.token_hex(12)
    alerts.save(look.engine, owner, state)  # from here on it has its number
    try:
        way.send(Message.of(look.settings, box.delivery, box.sending))
    except Exception as error:
        if not isinstance(error, ApplianceError):
            log.exception("alerts by %s", name)
        box.failures += 1
        box.problem = str(error) or type(error).__name__
        pause_s = min(FIRST_PAUSE_S * 2 ** min(box.failures - 1, 10), LONGEST_PAUSE_S)
        box.next_at = now() + timedelta(seconds=pause_s)
        log.warning("alerts by %s are not delivered: %s", name, box.problem)
    else:
        log.info("%d alerts told by %s", len(box.sending), name)
        box.failures, box.problem, box.sending, box.delivery = 0, "", [], ""
        box.next_at, box.sent_at = None, now()
        box.lately = [*box.lately, box.sent_at][-MOST_AN_HOUR:]
    alerts.save(look.engine, owner, state)


def _may(box: Outbox, moment: datetime) -> bool:
    """Never a storm: what comes meanwhile waits, and goes out together."""
    if any(event.kind == "test" for event in box.waiting):
        return True
    if box.sent_at and moment - box.sent_at < GAP:
        return False
    box.lately = [at for at in box.lately if moment - at < AN_HOUR]
    return len(box.lately) < MOST_AN_HOUR


@contextmanager
def _held(engine: Engine, owner: str) -> Iterator[None]:
    """Renews the lease: a server may take its time. Who loses it can save nothing."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(LEASE_S / 4):
            try:
                alerts.lease(engine, owner, LEASE_S)
            except ApplianceError as error:
                log.warning("cannot renew the lease of the alerts: %s", error)

    thread = threading.Thread(target=beat, name="alerts-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
