"""When a source is read, by the clock of the site."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from appliance.errors import BadRequest, SettingsError
from appliance.settings import Settings
from appliance.store.timing import Quiet, Timing, quiet_of

TOKYO = ZoneInfo("Asia/Tokyo")
OFFICE = Quiet(time(8, 30), time(18, 0), frozenset(range(5)))
NIGHT = Quiet(time(22, 0), time(6, 0), frozenset({4}))  # of Friday to Saturday


def at(text: str, zone: ZoneInfo = TOKYO) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("quiet", "moment", "until"),
    [
        (OFFICE, "2026-11-26 08:29", None),  # a Thursday
        (OFFICE, "2026-11-26 08:30", "2026-11-26 18:00"),
        (OFFICE, "2026-11-26 17:59", "2026-11-26 18:00"),
        (OFFICE, "2026-11-26 18:00", None),
        (OFFICE, "2026-11-28 12:00", None),  # a Saturday
        (NIGHT, "2026-11-27 21:59", None),
        (NIGHT, "2026-11-27 22:00", "2026-11-28 06:00"),
        (NIGHT, "2026-11-28 05:59", "2026-11-28 06:00"),
        (NIGHT, "2026-11-28 22:00", None),
    ],
)
def test_quiet_hours_go_by_the_clock_on_the_wall(
    quiet: Quiet, moment: str, until: str | None
) -> None:
    assert quiet.until(at(moment), TOKYO) == (at(until) if until else None)


@pytest.mark.parametrize(
    ("timing", "then"),
    [
        (Timing(), "2026-11-26 08:25:30"),
        (Timing(120), "2026-11-26 08:27"),
        (Timing(600, quiet=OFFICE), "2026-11-26 18:00"),
        (Timing(cron="0 3 * * *"), "2026-11-27 03:00"),
        (Timing(cron="0 12 * * *", quiet=OFFICE), "2026-11-26 18:00"),
        (Timing(cron="*/30 9-17 * * SUN"), "2026-11-29 09:00"),
    ],
)
def test_the_next_time(timing: Timing, then: str) -> None:
    assert timing.next(at("2026-11-26 08:25"), TOKYO, 30) == at(then)


def test_an_hour_that_a_spring_night_does_not_have() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    moment = at("2027-03-27 12:00", berlin)
    then = Timing(cron="30 2 * * *").next(moment, berlin, 30)
    assert then == at("2027-03-28 03:00", berlin)
    quiet = Quiet(time(1, 0), time(4, 0))
    assert quiet.until(at("2027-03-28 01:30", berlin), berlin) == at("2027-03-28 04:00", berlin)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Timing(60, "0 3 * * *"),
        lambda: Timing(cron="3時"),
        lambda: Timing(cron="0 0 30 2 *"),
        lambda: Timing(cron="0 0 0 3 * *"),
        lambda: Timing(bytes_per_s=10),
        lambda: Quiet(time(9), time(9)),
        lambda: Quiet(time(9), time(10), frozenset()),
        lambda: Quiet(time(9), time(10), frozenset({7})),
        lambda: quiet_of("朝-夜", "月"),
        lambda: quiet_of("09:00-10:00", "祝"),
    ],
)
def test_what_cannot_be_is_refused(made) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadRequest):
        made()


def test_as_it_is_written_on_the_command_line() -> None:
    assert quiet_of("08:30-18:00", "月火水木金") == OFFICE


def test_the_sites_zone(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert Settings(data=tmp_path, time_zone="Asia/Tokyo").zone == TOKYO
    assert Settings(data=tmp_path).zone is not None
    with pytest.raises(SettingsError, match="Mars"):
        Settings(data=tmp_path, time_zone="Mars/Olympus")
    with pytest.raises(SettingsError):
        Settings(data=tmp_path, access_max_age_seconds=0)
