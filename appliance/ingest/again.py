"""One document that a person wants read again, or that has another title: done beside the runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy import Engine

from appliance.errors import ApplianceError, ModelBusy, ModelUnreachable, NotReady, NotVisible
from appliance.ingest.running import Parse
from appliance.ingest.sync import take_again
from appliance.ingest.vectors import Stopped, embed
from appliance.ports import Connector, Embedder
from appliance.settings import Settings
from appliance.store import again, catalog, sources
from appliance.store.sources import Source

log = logging.getLogger(__name__)

LEASE_S = 180.0  # a worker that died holds it up no longer
LATER_S = 5.0

GONE = "取り込み元にファイルが見つかりません。"


def look(
    engine: Engine,
    connect: Callable[[Source], Connector],
    embedder: Embedder,
    parse: Parse,
    settings: Settings,
    over: threading.Event,
) -> bool:
    """Do what is wanted longest. False if nothing is. Raises NotReady."""
    wanted = again.lease(engine, LEASE_S)
    if wanted is None:
        return False
    try:
        if wanted.what == "title":
            _embed(engine, wanted.document_id, embedder, over)
        else:
            source = sources.get(engine, wanted.source_id)
            file = connect(source).file(wanted.uri)
            take_again(engine, source, file, embedder, parse, settings, over)
        again.done(engine, wanted)
    except (Stopped, ModelBusy, ModelUnreachable, NotReady):
        again.put_off(engine, wanted, LATER_S)
    except NotVisible:
        again.failed(engine, wanted, GONE)
        _list(engine, wanted.source_id)
    except ApplianceError as error:
        again.failed(engine, wanted, str(error) or type(error).__name__)
    except Exception as error:
        log.exception("document %s", wanted.document_id)
        reason = f"内部エラーで取り込めませんでした（{type(error).__name__}）。"
        again.failed(engine, wanted, reason)
    return True


def _embed(engine: Engine, document_id: str, embedder: Embedder, over: threading.Event) -> None:
    entries = catalog.entries_of(engine, document_id, embedder.name)
    rows = embed([entry.text for entry in entries], embedder, over)
    vectors = {entry.chunk_id: row for entry, row in zip(entries, rows, strict=True)}
    catalog.set_vectors(engine, document_id, embedder.name, vectors)


def _list(engine: Engine, source_id: int) -> None:
    """Whether a file is really gone is for the whole listing to say."""
    try:
        sources.run_now(engine, source_id)
    except NotVisible:
        return  # so is its source
