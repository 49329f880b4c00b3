"""Pages that are pictures, read in the background: one document a turn, one page at a time.

A page is kept when it is read. When a document's last page is, the document is parsed again with
what was read in the place of its pictures, and takes the place of the text it had.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from appliance.errors import ApplianceError, Conflict, TooLarge, Transient, Unreadable
from appliance.ingest import inside, kept, once
from appliance.ingest.handling import handled, quiet
from appliance.ingest.vectors import Part, Stopped, named, of_parts
from appliance.ports import Embedder, PageReader
from appliance.settings import Settings
from appliance.store import catalog, scans, sources
from appliance.store.rows import clean
from appliance.store.scans import Scan
from appliance.text import readings
from appliance.text.split import split
from appliance.types import NOBODY, Document, RawFile

log = logging.getLogger(__name__)

TURN_S = 60.0  # of one document, until others have theirs
AWAY_S = 600.0  # how long a document waits whose bytes are not here
BUSY_S = 30.0  # and one whose embedder is away
LEASE_S = 60.0  # renewed as long as the worker lives
_NOTHING = "文字を読み取れませんでした (OCR)。写真や白紙の可能性があります。"


@dataclass(frozen=True)
class Room:
    """What the reading of pages needs."""

    engine: Engine
    reader: PageReader
    parse: Callable[[RawFile], tuple[Document, str]]
    embedder: Embedder
    settings: Settings


def turn(room: Room, owner: str, stop: threading.Event) -> bool:
    """Read pages of one document for a while. False if none waits.

    Raises what the reader raises when the machine is to blame, and NotReady.
    """
    scan = scans.lease(room.engine, owner, LEASE_S)
    if scan is None:
        return False
    pause_s = 0.0
    try:
        if not kept.path(room.settings, scan.digest).is_file():
            pause_s = AWAY_S
            scans.bring(room.engine, scan)
        else:
            with _held(room.engine, scan):
                if _read(room, scan, stop):
                    _put_together(room, scan, stop)
    except (Conflict, Stopped):
        return True  # nobody wants it any more, or somebody wants us to stop
    except Transient as error:
        pause_s = BUSY_S
        log.warning("pages of %r wait: %s", scan.uri, error)
    finally:
        scans.release(room.engine, scan, pause_s)
    return True


@contextmanager
def _held(engine: Engine, scan: Scan) -> Iterator[None]:
    """Renews the lease. Whoever lost it meets a Conflict at the next page."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(LEASE_S / 3):
            try:
                scans.renew(engine, scan, LEASE_S)
            except ApplianceError as error:  # the database is away: it may come back in time
                log.warning("cannot renew the lease of %r: %s", scan.uri, error)

    thread = threading.Thread(target=beat, name="pages-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _read(room: Room, scan: Scan, stop: threading.Event) -> bool:
    """Read page after page. False if some still wait."""
    file, over = kept.path(room.settings, scan.digest), time.monotonic() + TURN_S
    shared = once.shared(sources.get(room.engine, scan.source_id).kind)
    while not stop.is_set() and time.monotonic() < over:
        if shared:
            scans.learn(room.engine, scan)
        if (number := scans.begin(room.engine, scan)) is None:
            return True
        try:
            page = room.reader.read(file, number)
        except (Unreadable, TooLarge) as error:
            log.warning("p. %d of %r: %s", number, scan.uri, error)
            scans.fail(room.engine, scan, number, _told(scan, error))
        except Transient:
            scans.spare(room.engine, scan, number)
            raise
        else:
            scans.keep(room.engine, scan, number, page)
    return False


def _put_together(room: Room, scan: Scan, stop: threading.Event) -> None:
    settings, source = room.settings, sources.get(room.engine, scan.source_id)
    sizes = (
        source.tuning.chunk_chars or settings.chunk_chars,
        source.tuning.parent_chars or settings.parent_chars,
    )
    file = RawFile(
        scan.uri,
        scan.version,
        lambda: kept.path(settings, scan.digest).open("rb"),
        NOBODY,  # whoever may read it: the catalogue knows
        scan.title,
        scan.modified_at,
        read=scans.pages(room.engine, scan.document_id, scan.digest, settings.ocr_sure),
    )
    try:
        document = room.parse(file)[0]
    except (Unreadable, TooLarge) as error:
        scans.give_up(room.engine, scan, _told(scan, error))
        return
    made = inside.digest(document, scan.digest)
    document, counts, withheld = handled(document, scan.uri, scan.personal_data)
    if withheld:
        catalog.withhold_read(room.engine, scan, counts)
        kept.drop(room.engine, settings, scan.digest)
        return
    chunks = split(document, *sizes)
    part = Part(scan.title, document, chunks, scan.holder)
    (part,) = named(room.engine, [part], room.embedder, share=once.shared(source.kind))
    (vectors,) = of_parts([part], room.embedder, stop)
    failed = scans.state(room.engine, scan.document_id).failed
    catalog.reread(
        room.engine,
        scan,
        document,
        chunks,
        vectors,
        room.embedder.name,
        sizes="/".join(map(str, sizes)),
        problem=lost(failed) if failed else None if chunks else _NOTHING,
        counts=counts,
        made=made,
        said=part.said,
    )
    kept.drop(room.engine, settings, scan.digest)


# --- what a document says of its pages ---------------------------------------------


def waits(numbers: Collection[int]) -> str:
    return f"p. {readings.ranges(numbers)} は文字の読み取り (OCR) を待っています"


def lost(failed: Mapping[int, str]) -> str:
    why = next(iter(failed.values()))
    return f"p. {readings.ranges(failed)} を読み取れませんでした ({why})"


def _told(scan: Scan, error: Exception) -> str:
    """A reader or a parser may quote what it could not read."""
    return quiet(clean(str(error)), scan.personal_data)
