"""Which backups stay: the last of each day, of each week and of each month, of so many of each.

What is younger than a day stays, and so does the latest, however old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo

from appliance.backup.vault import Manifest, Vault
from appliance.settings import Settings

_YOUNG = timedelta(days=1)


def tidy(vault: Vault, settings: Settings, moment: datetime) -> list[str]:
    """Take away the backups that need not stay, and their parts. Returns their names."""
    with vault.held():
        found = [manifest for manifest, _ in vault.sound()[0]]
        stay = kept(found, settings, moment)
        gone = [one.name for one in found if one.name not in stay]
        if gone:
            vault.remove(gone)
            vault.sweep()
    return gone


def kept(found: Iterable[Manifest], settings: Settings, moment: datetime) -> set[str]:
    newest = sorted(found, key=lambda one: one.made_at, reverse=True)
    stay = {one.name for one in newest if moment - one.made_at < _YOUNG} | {
        one.name for one in newest[:1]
    }
    rules: tuple[tuple[int, Callable[[datetime], object]], ...] = (
        (settings.backup_keep_days, lambda at: at.date()),
        (settings.backup_keep_weeks, lambda at: tuple(at.isocalendar())[:2]),
        (settings.backup_keep_months, lambda at: (at.year, at.month)),
    )
    for many, period in rules:
        stay |= _last_of_each(newest, many, period, settings.zone)
    return stay


def _last_of_each(
    newest: list[Manifest], many: int, period: Callable[[datetime], object], zone: tzinfo
) -> set[str]:
    last: dict[object, str] = {}
    for one in newest:
        last.setdefault(period(one.made_at.astimezone(zone)), one.name)
    return set(list(last.values())[: max(0, many)])
