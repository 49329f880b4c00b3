"""The queue before the model: bounded, and fair between people.

Requests are served in the order they came, but each further one that a person has waiting counts
as having come `SPACING` arrivals later. So ten tabs of one person wait for each other and not
before everyone else; and nobody is overtaken for ever, however many newcomers there are.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
SPACING = 8  # arrivals that may overtake a person's second request, twice as many the third


class Full(Exception):
    """`owner_full`: this person's share is full, not the queue."""

    def __init__(self, waiting: int, owner_full: bool) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.owner_full = owner_full


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

    def __init__(self, size: int) -> None:
        self._size = size
        self._share = max(1, (size + 1) // 2)
        self._places: list[_Place[T]] = []
        self._waiting: Counter[str] = Counter()
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    def put(self, item: T, owner: str) -> None:
        """Raises Full."""
        if len(self._places) >= self._size or self._waiting[owner] >= self._share:
            raise Full(len(self._places), len(self._places) < self._size)
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

    def _gone(self, place: _Place[T]) -> None:
        self._waiting[place.owner] -= 1
        if not self._waiting[place.owner]:
            del self._waiting[place.owner]
