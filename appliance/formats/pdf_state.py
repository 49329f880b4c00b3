"""What a page is like: by how much of it is picture, how many letters it has and what they make."""

from __future__ import annotations

from appliance.formats.pdf_layout import Layout
from appliance.formats.pdf_page import Ink
from appliance.text import garbled
from appliance.types import Page

_STRAY = 50  # letters that weigh as much as a picture of the whole page
_TRACE = 0.03  # of the page: a rule or a mark is not a picture
_SURE = 0.5


def judge(number: int, ink: Ink, layout: Layout, text: str) -> Page:
    """`text` is what the page has of its own, without running heads."""
    letters = len("".join(text.split()))
    if not letters:
        drawn = ink.all / (ink.all + _TRACE)
        if drawn >= _SURE:
            return Page(number, "scanned", round(drawn, 2), "none")
        return Page(number, "empty", round(1 - drawn, 2), "none")
    doubt = garbled.doubt(text)
    if doubt > _SURE:
        return Page(number, "garbled", round(doubt, 2), "none")
    picture = ink.pictures * _STRAY / (letters + _STRAY)
    if picture > _SURE:
        return Page(number, "scanned", round(picture, 2), "text")
    sure = 1 - max(doubt, picture)
    return Page(
        number, "rotated" if layout.turned else "fine", round(min(sure, layout.sure), 2), "text"
    )
