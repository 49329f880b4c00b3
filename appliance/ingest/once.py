"""Work that was done for the same bytes, or for the same words, is not done again.

What a person brings himself is always read, embedded and looked at as if nobody else had it: else he
could tell from the time it takes, or from what is said of it meanwhile, that somebody has.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from appliance.formats.kinds import EDITION
from appliance.formats.sandbox import name_of
from appliance.ingest.running import Run
from appliance.store import twins
from appliance.text import readings
from appliance.types import Document, RawFile

_WATCHED = "uploads"  # the kind of source whose people see what becomes of their files


def shared(kind: str) -> bool:
    """Whether files of such a source may have what was made of others'."""
    return kind != _WATCHED


def shares(run: Run) -> bool:
    """Likewise; what a person wants read anew is read anew."""
    return shared(run.source.kind) and not run.forced


def read_as(run: Run, file: RawFile) -> str:
    """What decides, beside its bytes, what a parser makes of a file."""
    ending = PurePosixPath(name_of(file).lower()).suffix[:50]
    return f"{EDITION} {'pages' if run.settings.ocr else 'text'} {ending}"


def parsed(run: Run, file: RawFile, digest: str) -> tuple[Document, str, bool]:
    """The document, its media type, and whether that was known before. Raises what `parse` does."""
    if shares(run) and (twin := twins.read(run.engine, digest, read_as(run, file))):
        return *twin, True
    return *run.parse(file), False


def lends(run: Run, document: Document) -> bool:
    """Whether others of the same bytes may have what a parser said here: it is kept as it was said."""
    masked = run.source.personal_data == "mask"
    return not (masked or document.children or any(map(readings.is_picture, document.pages)))
