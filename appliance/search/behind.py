"""What stands behind copies: a text that a thousand documents have takes one place, not a thousand.

Passages that say the same are shown once (`retrieve.py`), but only so many are looked at. Where most
of them are one text, they are left out of the scope and it is looked again, a few times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from pyroaring import BitMap64
from sqlalchemy import Engine

from appliance.store import alike
from appliance.types import Hit, Scope

ROUNDS, GROWTH = 3, 4  # copies by other names are found by looking further: so often, so much

Look = Callable[[int, Scope], Iterable[Hit]]


def copies(engine: Engine, found: Iterable[Hit], count: int, scope: Scope, look: Look) -> list[Hit]:
    """The best of each text behind those `found`; nothing, where at least every second one differs."""
    hits, more, known = list(found), list[Hit](), set[object]()
    for _ in range(ROUNDS):
        places = alike.places(engine, {hit.chunk_id for hit in hits})
        often = Counter(places.values())
        if len(places) < count or 2 * len(often) >= len(places):
            return more
        known |= often.keys()
        same = alike.same(engine, [i for i, place in places.items() if often[place] > 1])
        scope = Scope(scope.chunks - BitMap64(places) - BitMap64(same), scope.accesses)
        count *= GROWTH
        hits = list(look(count, scope))
        of = alike.places(engine, {hit.chunk_id for hit in hits})
        for hit in hits:
            if (place := of.get(hit.chunk_id)) not in known and place:
                known.add(place)
                more.append(hit)
    return more
