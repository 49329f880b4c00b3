"""The canaries, several in one child."""

from __future__ import annotations

import canaries

from appliance.formats import child
from tests.bench import several


def prepare() -> child.Work:
    return several.one_by_one(canaries)
