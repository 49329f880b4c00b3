"""Tables of contents: they name everything that is asked for, and say nothing of it.

Read as a source, a page number answers 「副業はできますか」, and the name of a chapter 「第12条は」.
"""

from __future__ import annotations

import re

LEAST = 3  # entries: fewer may be anything
_LEADER = r"(?:…|‥|\.{3}|．{3}|・{3}|_{3}|─{2})[…‥.．・_─ \t\u3000]*"
_ENTRY = re.compile(
    rf"^[ \t\u3000]*\S[^\n]{{0,80}}?[ \t\u3000]*{_LEADER}[0-9０-９]{{1,4}}[ \t\u3000]*$"
    r"|^[ \t\u3000]*第[0-9０-９一二三四五六七八九十百]+[章節条編][ \t\u3000（][^\n。]{1,40}[ \t\u3000]+[0-9０-９]{1,4}[ \t\u3000]*$",
    re.MULTILINE,
)


def blanked(text: str) -> str:
    """The text with blanks in the place of such entries: every other character stays where it was."""
    entries = list(_ENTRY.finditer(text))
    if len(entries) < LEAST:
        return text
    return _ENTRY.sub(lambda m: " " * len(m[0]), text)
