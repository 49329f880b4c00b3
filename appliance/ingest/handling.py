"""A document as it is stored: cleaned, noted, and its personal data handled as its source wants.

Whatever stores text goes through `handled`, whether a file said it or its pictures did.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from appliance.store.rows import clean
from appliance.text import personal, suspicious
from appliance.text.personal import Handling
from appliance.types import Document

IN_URI = "ファイルの名前か場所に個人情報と思われる文字があります。名前と場所は伏せられません。"


class Handled(NamedTuple):
    """`counts` is how much was found of each kind. Withheld: nobody may find it."""

    document: Document
    counts: dict[str, int]
    withheld: bool


def handled(document: Document, uri: str, handling: Handling, shown: str | None = None) -> Handled:
    """`shown` is what of its uri will be seen, where that is not the whole."""
    problems = (*document.problems, *suspicious.notes(document.text))
    # what is embedded is what is stored
    document = replace(document, text=clean(document.text), problems=problems)
    counts = personal.counted(document.text, document.title or "", uri)
    withheld = handling == "quarantine" and bool(counts.keys() & personal.SERIOUS)
    if handling == "mask":
        document = _masked(document, shown or uri)
    elif handling == "quarantine":  # nobody has counted what is in a text that is not used
        own = tuple((page, personal.masked(said)) for page, said in document.own)
        document = replace(document, own=own)
    return Handled(document, counts, withheld)


def quiet(text: str, handling: Handling) -> str:
    """A name or a reason as its source lets it be shown."""
    return text if handling == "show" else personal.masked(text)


def _masked(document: Document, uri: str) -> Document:
    document = personal.without(document)
    if personal.find(uri):  # it names the file, and must stay
        document = replace(document, problems=(*document.problems, IN_URI))
    return document
