"""Plain text, in whatever Japanese encoding it comes."""

from __future__ import annotations

from typing import BinaryIO

from appliance.formats import charset, structure
from appliance.types import Document


def parse(stream: BinaryIO) -> Document:
    decoded = charset.decode(stream.read())
    text = decoded.text.replace("\f", "\n").rstrip()
    return Document(text, structure.sections(text), problems=decoded.problems)
