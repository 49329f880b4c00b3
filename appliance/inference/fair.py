"""The queue before the model: bounded, and fair between people.

Requests are served in the order they came, but each further one that a person has waiting counts
as having come `SPACING` arrivals later. So ten tabs of one person wait for each other and not
before everyone else; and nobody is overtaken for ever, however many newcomers there are.

Who finds it full is told when to come back, and has a claim until then: whoever comes later is
turned away while a place is free that an earlier claim is for. At most half of the places are
held free like that, so the model never waits for people who do not come back.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
SPACING = 8  # arrivals that may overtake a person's second request, twice as many the third
LATE_S = 10.0  # a claim outlives the time it was given by half of it and this
CLAIMS = 16  # kept for each place of the queue
# People come back somewhat later than they were told. Told the very moment, they leave places free,
# and newcomers are let in beside them: of 200 people on four slots some waited six times as long as
# who came just before. Told a fifth earlier, 1.2 times, and for half as many refusals more.
EARLY = 0.8


class Full(Exception):
    """`owner_full`: this person's share is full, not the queue. `retry_s`: when to come again."""

    def __init__(self, waiting: int, owner_full: bool, retry_s: float) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.owner_full = owner_full
        self.retry_s = retry_s


@dataclass(frozen=True)
class _Place(Generic[T]):
    turn: int
    arrived: int
    owner: str
    item: T

    def key(self) -> tuple[int, int]:
        return self.turn, self.arrived


class FairQueue(Generic[T]):
    """Not safe for threads: its owner locks. One person may hold at most half of it."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._claims: dict[str, float] = {}  # until when; the earliest refusal first
        self._share = max(1, (size + 1) // 2)
        self._places: list[_Place[T]] = []
        self._waiting: Counter[str] = Counter()
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    def put(self, item: T, owner: str, *, place_s: float = 1.0, claims: bool = True) -> None:
        """Raises Full. A place becomes free every `place_s` seconds.

        `claims`: the owner can come back under the same name.
        """
        room, before = self._size - len(self._places), self._before(owner)
        if self._waiting[owner] >= self._share:
            raise Full(len(self._places), room > 0, place_s * len(self._places))
        if room <= min(before, self._size // 2):
            free_s = place_s * (before + 1 - room)
            if claims and (owner in self._claims or len(self._claims) < CLAIMS * self._size):
                self._claims[owner] = self._clock() + 1.5 * max(1.0, free_s) + LATE_S
            raise Full(len(self._places), False, max(1.0, EARLY * free_s))
        self._claims.pop(owner, None)
        arrived = next(self._arrivals)
        place = _Place(arrived + SPACING * self._waiting[owner], arrived, owner, item)
        self._waiting[owner] += 1
        bisect.insort(self._places, place, key=_Place.key)

    def first(self) -> T | None:
        return self._places[0].item if self._places else None

    def pop(self) -> T:
        place = self._places.pop(0)
        self._gone(place)
        return place.item

    def remove(self, item: T) -> bool:
        """Take out one that is no longer wanted. False if it is not here."""
        for n, place in enumerate(self._places):
            if place.item is item:
                del self._places[n]
                self._gone(place)
                return True
        return False

    def items(self) -> list[T]:
        """In the order in which they will be served if nobody else comes."""
        return [place.item for place in self._places]

    def _before(self, owner: str) -> int:
        """How many claims are earlier than this owner's, or his request."""
        now = self._clock()
        self._claims = {who: until for who, until in self._claims.items() if until >= now}
        names = list(self._claims)
        return names.index(owner) if owner in self._claims else len(names)

    def _gone(self, place: _Place[T]) -> None:
        self._waiting[place.owner] -= 1
        if not self._waiting[place.owner]:
            del self._waiting[place.owner]
