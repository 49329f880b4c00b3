"""Files inside a file that was taken in before: which of them is which of those."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

from appliance.store.access import mark_to_json
from appliance.store.inside import Held
from appliance.text import readings
from appliance.types import Child, Document


def matched(
    children: Sequence[Child], held: Sequence[Held]
) -> Iterator[tuple[Child, str | None, Held | None]]:
    """Each child with its digest, and what it was until now.

    First what kept both name and text, then what was given another name, then what is new under an
    old name: of a mailbox that lost its first mail, all others are what they were.
    """
    digests = [digest(c.document, c.digest) if c.document else None for c in children]
    left = {one.document_id: one for one in held}
    by_path = {one.path: one for one in held}
    by_digest: defaultdict[str | None, list[Held]] = defaultdict(list)
    for one in reversed(held):
        by_digest[one.digest].append(one)
    found: dict[int, Held] = {}

    def take(n: int, one: Held | None) -> None:
        if n not in found and one and left.pop(one.document_id, None):
            found[n] = one

    for n, child in enumerate(children):
        same = by_path.get(child.path)
        if same and same.digest == digests[n]:
            take(n, same)
    for n, own in enumerate(digests):
        while own and n not in found and by_digest[own]:
            take(n, by_digest[own].pop())
    for n, child in enumerate(children):
        take(n, by_path.get(child.path))
    for n, child in enumerate(children):
        yield child, digests[n], found.get(n)


def digest(document: Document, of_bytes: str | None) -> str:
    """Of what was made of the file: a better parser makes another. Pictures say nothing yet: there
    the bytes do.
    """
    marks = [mark_to_json(mark) for mark in document.marks]
    own = document.properties
    beside = [own.author, own.created and own.created.isoformat(), own.edges]
    pictures = any(map(readings.is_picture, document.pages))
    said = json.dumps([document.text, document.title, marks, beside, pictures and of_bytes])
    return hashlib.sha256(said.encode()).hexdigest()
