"""When a source is read, when not, and how fast. Moments in, moments out: nothing is waited for here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from appliance.errors import BadRequest

WEEK = frozenset(range(7))
SLOWEST = 1000  # bytes a second; slower, and a file would outlast the patience of its server


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours in which nothing is read, by the clock of the site; past midnight where `end` is earlier."""

    start: time
    end: time
    days: frozenset[int] = WEEK  # on which they begin; 0 is Monday

    def __post_init__(self) -> None:
        if self.start == self.end or not self.days or not self.days <= WEEK:
            raise BadRequest("取り込みを控える時間帯は、曜日と、異なる開始と終了の時刻で決めます。")

    def until(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """When they are over; None where it is not in them."""
        today = moment.astimezone(zone).date()
        for day in (today, today - timedelta(days=1)):  # those of yesterday may last
            if day.weekday() not in self.days:
                continue
            last = day + timedelta(days=self.end < self.start)
            begins, ends = (
                datetime.combine(on, at, zone).astimezone(UTC)
                for on, at in ((day, self.start), (last, self.end))
            )
            if begins <= moment < ends:
                return ends
        return None


@dataclass(frozen=True, slots=True)
class Timing:
    """A source's own. What is None: the appliance's interval, no quiet hours, no limit."""

    interval_s: int | None = None
    cron: str | None = None  # five fields, by the clock of the site; instead of the interval
    quiet: Quiet | None = None
    bytes_per_s: int | None = None  # of the files that are read

    def __post_init__(self) -> None:
        if self.cron is not None:
            if self.interval_s is not None:
                raise BadRequest("間隔と cron 式は、どちらか一方だけを決めてください。")
            _after(self.cron, datetime(2026, 1, 1, tzinfo=UTC))
        if self.bytes_per_s is not None and self.bytes_per_s < SLOWEST:
            raise BadRequest(f"読み込みの速さは毎秒 {SLOWEST} バイト以上にしてください。")

    def next(self, moment: datetime, zone: tzinfo, interval_s: float) -> datetime:
        """When to read again what was read until then; `interval_s` where it has none of its own."""
        if self.cron is None:
            return self.free(moment + timedelta(seconds=self.interval_s or interval_s), zone)
        return self.free(_after(self.cron, moment.astimezone(zone)), zone)

    def free(self, moment: datetime, zone: tzinfo) -> datetime:
        """That moment, or the end of the quiet hours that it lies in."""
        return self.quiet_until(moment, zone) or moment

    def quiet_until(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """When the quiet hours are over that it lies in."""
        return self.quiet.until(moment, zone) if self.quiet else None


USUAL = Timing()


def quiet_of(hours: str, days: str) -> Quiet:
    """From "08:30-18:00" and "月火水木金". Raises BadRequest."""
    start, _, end = hours.partition("-")
    try:
        on = frozenset("月火水木金土日".index(day) for day in days)
        return Quiet(time.fromisoformat(start.strip()), time.fromisoformat(end.strip()), on)
    except ValueError:
        raise BadRequest(
            f"「{hours}」「{days}」は「08:30-18:00」「月火水木金」の形にしてください。"
        ) from None


def _after(cron: str, moment: datetime) -> datetime:
    if len(cron.split()) != 5:  # the library knows a sixth, of seconds
        raise BadRequest(f"cron 式「{cron}」は「分 時 日 月 曜日」の 5 つで書いてください。")
    try:
        return next(CronSim(cron, moment)).astimezone(UTC)
    except (CronSimError, StopIteration):
        raise BadRequest(f"cron 式「{cron}」が正しくないか、決して来ない日時です。") from None
