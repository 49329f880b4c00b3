"""Settings → a machine. The only place that names concrete classes.

`web` and `work` are built apart: whoever brings documents in loads no index,
whoever answers runs no parser, and neither loads a model.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from appliance.backup import restore, switch
from appliance.errors import ApplianceError, Conflict, SettingsError
from appliance.inference import models
from appliance.inference.client import InferClient, RemoteEmbedder, RemoteGenerator
from appliance.inference.rerank import RemoteReader
from appliance.ports import Connector, Embedder, Generator, Index, Reader
from appliance.settings import Settings
from appliance.store import database, directories, guard, secrets, sources, spaces
from appliance.system import Appliance, Workshop, desk, uploads
from appliance.types import Site

if TYPE_CHECKING:  # `kura work` never loads them
    from appliance.search.dense import DenseIndex
    from appliance.search.keyword import KeywordIndex

UPLOADS_NAME = "アップロード"
PROBE_S = 1.0  # how long one look at the model server holds


def store(settings: Settings) -> Engine:
    """The database, its schema up to date, in a data folder that is nobody else's."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    guard.check(settings.data)
    unfinished = "復元が途中で止まっています。同じ `kura restore` をもう一度実行してください。"
    if switch.halted(settings.data):
        raise SettingsError(unfinished)
    engine = database.connect(settings.database_url)
    database.migrate(engine)
    if restore.pending(engine):
        engine.dispose()
        raise SettingsError(unfinished)
    return engine


def work(
    settings: Settings,
    *,
    engine: Engine | None = None,
    embedder: Embedder | None = None,
    others: Sequence[Embedder] = (),
) -> Workshop:
    """For `kura work`. What is given is taken; tests give fakes."""
    engine = engine or store(settings)
    kinds = connectors()
    _uploads_source(settings, engine, kinds)
    ring = secrets.keyring(settings.secrets_key)
    sources.seal(engine, ring)
    directories.seal(engine, ring)
    at = site(settings, engine)
    named = _named(settings, embedder, others)
    return Workshop(settings, engine, embedder or remote_embedder(settings), kinds, at, named)


def web(
    settings: Settings,
    *,
    engine: Engine | None = None,
    embedder: Embedder | None = None,
    generator: Generator | None = None,
    reader: Reader | None = None,
    others: Sequence[Embedder] = (),
) -> Appliance:
    """For `kura web`. What is given is taken; tests give fakes. The follower is not yet started."""
    from appliance.ask.answer import Answerer
    from appliance.identity.passwords import Door
    from appliance.ingest.originals import Originals
    from appliance.search.follow import Follower
    from appliance.search.move import Mover, Serving, tidy
    from appliance.search.retrieve import Retriever
    from appliance.search.scope import ScopeMap

    engine = engine or store(settings)
    named = _named(settings, embedder, others)
    if embedder is None:  # who brings an embedder brings a reader too, or does without
        embedder, reader = remote_embedder(settings), reader or remote_reader(settings)
    answers = probe(settings) if generator is None else (lambda: True)
    measured = (lambda: model_metrics(settings)) if generator is None else (lambda: "")
    wary = caution(settings, own=generator is None and not settings.generator_url)
    generator = generator or remote_generator(settings)
    serving = spaces.serving(engine, embedder.name, lambda name: named(name) is not None)
    searched = (named(serving) if serving != embedder.name else None) or embedder
    dense, keyword = local_indexes(settings, searched)
    indexes: tuple[Index, Index] = (dense, keyword)
    scopes = ScopeMap()
    follower = Follower(engine, indexes, scopes, settings)
    mover = None
    kept = [dense_folder(settings, searched.name)]
    if searched is not embedder:
        kept.append(dense_folder(settings, embedder.name, anew=True))
        mover = Mover(
            engine,
            follower,
            Serving((searched, dense)),
            embedder,
            partial(dense_index, settings, embedder, anew=True),
            dense_folder(settings, searched.name),
        )
    tidy(settings.data / "index", kept)
    retriever = Retriever(
        engine,
        searched,
        dense,
        keyword,
        scopes,
        settings,
        ready=lambda: follower.ready,
        reader=reader,
        serving=mover.serving if mover else None,
    )
    kinds = connectors()
    _uploads_source(settings, engine, kinds)
    return Appliance(
        settings=settings,
        engine=engine,
        embedder=embedder,
        generator=generator,
        scopes=scopes,
        follower=follower,
        retriever=retriever,
        answerer=Answerer(retriever, generator, settings, wary),
        door=Door.of(settings, engine),
        originals=Originals(desk(settings)),
        keyring=secrets.keyring(settings.secrets_key),
        connectors=kinds,
        mover=mover,
        model_answers=answers,
        model_metrics=measured,
    )


def site(settings: Settings, engine: Engine | None = None) -> Site:
    """What connectors are told of this machine; without `engine`, not of its directories."""
    from appliance.sovereignty import egress

    near, loaders = (
        frozenset(name.strip() for name in names.split(",") if name.strip())
        for names in (settings.near_hosts, settings.langchain_loaders)
    )
    ca_file = None if settings.ca_file == Path() else settings.ca_file
    unseal = secrets.keyring(settings.secrets_key).open
    made = Site(ca_file, near, loaders, egress.reach, unseal, own=settings.data)
    return replace(made, sids=partial(directories.known_sids, engine)) if engine else made


def connectors() -> Mapping[str, type[Connector]]:
    """Every kind of source, by its name."""
    from connectors.kinds import CONNECTORS

    return {kind.kind: kind for kind in CONNECTORS}


def local_indexes(settings: Settings, embedder: Embedder) -> tuple[DenseIndex, KeywordIndex]:
    from appliance.search.keyword import KeywordIndex

    return dense_index(settings, embedder), KeywordIndex(settings.data / "index" / "keyword")


def dense_index(settings: Settings, embedder: Embedder, *, anew: bool = False) -> DenseIndex:
    """`anew`: beside the one that serves, which another embedder has made."""
    from appliance.search import dense

    kind = dense.GpuDense if dense.has_gpu() else dense.DenseIndex
    folder = dense_folder(settings, embedder.name, anew=anew)
    return kind(folder, embedder.dim, embedder.name)


def dense_folder(settings: Settings, space: str, *, anew: bool = False) -> Path:
    """The first index of a site is `dense`; one that took its place has its embedder in its name."""
    own = settings.data / "index" / f"dense-{space}"
    return own if anew or own.is_dir() else settings.data / "index" / "dense"


def remote_embedder(settings: Settings) -> Embedder:
    """What documents come in by: the one that searches, too, but for a while after it has changed."""
    return _remote(settings, models.embedder(settings.embedder))


def searching_embedder(settings: Settings, engine: Engine) -> Embedder:
    """The one whose vectors are searched now."""
    named = _named(settings, None, ())
    wanted = remote_embedder(settings)
    name = spaces.serving(engine, wanted.name, lambda name: named(name) is not None)
    return named(name) or wanted


def _remote(settings: Settings, model: models.Model) -> Embedder:
    return RemoteEmbedder(InferClient(settings.infer_socket), model.name, model.dim)


def caution(settings: Settings, *, own: bool) -> float:
    """Of whoever answers; a model of the site's, or of another server, is trusted unless told otherwise."""
    if settings.reader_decides:
        return models.CAUTION if settings.reader_decides == "always" else 0.0
    name = settings.llm or models.DEFAULT_LLM
    return models.named(name).caution if own and name in models.known() else 0.0


def _named(
    settings: Settings, given: Embedder | None, others: Sequence[Embedder]
) -> Callable[[str], Embedder | None]:
    """Embedders by name; of those that were given, where there are any."""
    if given is not None:
        return {one.name: one for one in (given, *others)}.get
    rows = {row.name: row for row in models.catalogue() if row.kind == "embedder"}

    def named(name: str) -> Embedder | None:
        row = rows.get(name)
        there = row is not None and not models.problems(row, settings.models)
        return _remote(settings, row) if row and there else None

    return named


def remote_reader(settings: Settings) -> Reader | None:
    if settings.reranker == "none":
        return None
    own = Path(settings.own_reranker).name
    return RemoteReader(InferClient(settings.infer_socket), own or models.DEFAULT_READER)


def remote_generator(settings: Settings) -> Generator:
    at = settings.generator_url or settings.infer_socket
    return RemoteGenerator(InferClient(at), settings.generator_model, settings.context_tokens)


def probe(settings: Settings) -> Callable[[], bool]:
    """Whether the model server answers; looked at once in PROBE_S, however often it is asked."""
    if settings.generator_url:
        client, path = InferClient(settings.generator_url, timeout_s=2.0), "/v1/models"
    else:
        client, path = InferClient(settings.infer_socket, timeout_s=2.0), "/health"
    lock = threading.Lock()
    seen = (-PROBE_S, False)

    def answers() -> bool:
        nonlocal seen
        with lock:
            if time.monotonic() - seen[0] < PROBE_S:
                return seen[1]
            try:
                client.get(path)
                well = True
            except ApplianceError:
                well = False
            seen = (time.monotonic(), well)
            return well

    return answers


def model_metrics(settings: Settings) -> str:
    """What `kura infer` says of itself; empty while it is away."""
    client = InferClient(settings.infer_socket, timeout_s=2.0)
    try:
        return client.text("/metrics")
    except ApplianceError:
        return ""
    finally:
        client.close()


def _uploads_source(
    settings: Settings, engine: Engine, kinds: Mapping[str, type[Connector]]
) -> None:
    """Uploads are a source like any other, which is always there."""
    if "uploads" not in kinds or any(s.kind == "uploads" for s in sources.all(engine)):
        return
    folder = uploads(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(Conflict):  # the other process was quicker
        sources.create(engine, UPLOADS_NAME, "uploads", {"root": str(folder)})
