"""The queue before the model: bounded, and fair between people.

Start-time fair queuing (Goyal, Vin and Cheng 1996) with a cost of one a request: everybody's next
request gets the same place in the round, so ten tabs of one person wait for each other and not
before everyone else. Requests of one person keep their order.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Full(Exception):
    """`owner_full`: this person's share is full, not the queue."""

    def __init__(self, waiting: int, owner_full: bool) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.owner_full = owner_full


@dataclass(frozen=True)
class _Place(Generic[T]):
    round: int
    arrived: int
    owner: str
    item: T

    def key(self) -> tuple[int, int]:
        return self.round, self.arrived


class FairQueue(Generic[T]):
    """Not safe for threads: its owner locks. One person may hold at most half of it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._share = max(1, (size + 1) // 2)
        self._places: list[_Place[T]] = []
        self._waiting: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self._round = 0
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    def put(self, item: T, owner: str) -> None:
        """Raises Full."""
        if len(self._places) >= self._size or self._waiting[owner] >= self._share:
            raise Full(len(self._places), len(self._places) < self._size)
        turn = max(self._round, self._last.get(owner, -1) + 1)
        self._last[owner] = turn
        self._waiting[owner] += 1
        bisect.insort(self._places, _Place(turn, next(self._arrivals), owner, item), key=_Place.key)

    def first(self) -> T | None:
        return self._places[0].item if self._places else None

    def pop(self) -> T:
        place = self._places.pop(0)
        self._round = max(self._round, place.round)
        self._gone(place)
        self._last = {o: r for o, r in self._last.items() if r >= self._round or self._waiting[o]}
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

    def _gone(self, place: _Place[T]) -> None:
        self._waiting[place.owner] -= 1
        if not self._waiting[place.owner]:
            del self._waiting[place.owner]
