"""Secrets of a form: shown as asterisks, kept where the asterisks come back, told to nobody else.

Whoever may change where a source is asked must not thereby learn what opened the old place: what is
kept goes to the scheme, host and port it was typed for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from appliance.errors import BadRequest
from appliance.store.secrets import SECRET
from appliance.system import Appliance

HIDDEN = "********"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*://[^/?#\s]*)", re.IGNORECASE)
# of no URL; and what keeps others from listening, or from being the one that is asked
_NAMES = frozenset({"server", "host", "hosts", "port", "security", "encrypt", "host_fingerprint"})


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: HIDDEN if value and SECRET.search(name) else value for name, value in settings.items()
    }


def meant(
    machine: Appliance,
    given: Mapping[str, Any],
    kept: Mapping[str, Any],
    check: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """What was sent, checked, with the secrets that came back as they were shown.

    Raises BadRequest where one of those would be told to somebody else, and what `check` raises.
    """
    known = machine.keyring.open(kept)
    back = {name for name, value in given.items() if value == HIDDEN and SECRET.search(name)}
    settings = check({n: known.get(n) if n in back else value for n, value in given.items()})
    if any(known.get(name) for name in back) and set(places(settings)) - set(places(known)):
        raise BadRequest("接続先を変えるときは、パスワードや鍵を入れ直してください。")
    return settings


def places(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a secret among these settings may be told."""
    for name, value in settings.items():
        if SECRET.search(name):
            continue
        for one in value if isinstance(value, list) else [value]:
            if name in _NAMES:
                yield name, str(one).lower()
            elif isinstance(one, str):
                yield from (("", origin.lower()) for origin in _ORIGIN.findall(one))
