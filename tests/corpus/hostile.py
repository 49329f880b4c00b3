"""Files that mean harm: what each tries, what it shows openly, and what must not be read as plain text."""

from __future__ import annotations

from tests.corpus import hostile_office, hostile_packed, hostile_pdf, hostile_text
from tests.corpus.paper import Shelf


def papers(shelf: Shelf) -> None:
    for group in (hostile_pdf, hostile_office, hostile_text, hostile_packed):
        for attack in group.attacks():
            shelf.add(
                f"hostile/{attack.path}", attack.data, "Python",
                text=attack.shown, hidden=attack.hidden, attack=attack.tries,
            )  # fmt: skip
