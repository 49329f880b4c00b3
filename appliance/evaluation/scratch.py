"""A data set asked on a site of its own: its paragraphs are the documents, and nothing is kept.

The models are the running ones (`kura infer`), and so is everything between question and answer.
What may not be answered is asked by somebody who may read all but the one paragraph that tells: the
nearest neighbours are there, and the product's own access rules keep the right one away.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import ClassVar, cast

from pydantic import BaseModel

from appliance import build
from appliance.ask.answer import Piece, Stage
from appliance.errors import ModelBusy, NotVisible
from appliance.evaluation.measures import TOP, Said
from appliance.evaluation.sets import Paragraph, Question, Set
from appliance.ingest.sync import sync
from appliance.search.retrieve import ANY, Retrieval, Retriever
from appliance.settings import Settings
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import (
    EVERYONE,
    Answer,
    Change,
    Checkpoint,
    Cursor,
    Document,
    Filter,
    Layer,
    Principal,
    RawFile,
    Upsert,
    Viewer,
)

SOURCE = "evaluation"
HIDDEN = 0.25  # of the questions: their paragraph is kept away, and they must be refused
_MARKERS = re.compile(r"\[\d+\]")

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how many


def some(found: Set, questions: int, seed: int) -> list[Question]:
    """So many, drawn with the seed; all where it is 0, or more than there are."""
    every = list(found.questions)
    if 0 < questions < len(every):
        return random.Random(seed).sample(every, questions)  # noqa: S311
    return every


def drawn(found: Set, questions: int, seed: int) -> list[Question]:
    """So many questions, drawn with the seed; a part of the answerable becomes unanswerable."""
    dice = random.Random(seed)  # noqa: S311
    out = []
    for question in some(found, questions, seed):
        if question.answers and dice.random() < HIDDEN:
            (uri,) = question.documents
            out.append(
                Question(question.text, viewer=uri, slice="unanswerable", withheld=question.answers)
            )
        else:
            out.append(question)
    return out


def ask(
    found: Set, settings: Settings, questions: int, seed: int, progress: Progress
) -> list[Said]:
    asked = drawn(found, questions, seed)
    with site(found.paragraphs, settings, progress) as machine:
        said = []
        for n, question in enumerate(asked, 1):
            said.append(one(machine, question))
            progress("質問", n, len(asked))
    return said


@contextmanager
def site(
    paragraphs: Sequence[Paragraph],
    settings: Settings,
    progress: Progress,
    make: Callable[[Settings], Appliance] = build.web,
) -> Iterator[Appliance]:
    """A machine in a folder that is gone afterwards, with these documents."""
    with tempfile.TemporaryDirectory(prefix="kura-eval-") as name:
        folder = Path(name)
        folder.chmod(0o700)
        own = replace(
            settings,
            data=folder,
            database_url=f"sqlite:///{folder / 'kura.db'}",
            log=folder / "kura.log",
            secrets_key=folder / "secrets.key",
        )
        machine = make(own)
        try:
            source = sources.create(machine.engine, SOURCE, Paragraphs.kind, {})
            connector = Paragraphs(paragraphs, partial(progress, "文書"))
            sync(machine.engine, source, connector, machine.embedder, _parsed, own)
            machine.follower.reconcile()
            yield machine
        finally:
            machine.follower.close()
            machine.engine.dispose()


def one(machine: Appliance, question: Question) -> Said:
    hidden = Principal(f"user:not-{question.viewer}")
    viewer = Viewer("evaluation", frozenset({EVERYONE, hidden}))
    heard = Listening(machine.retriever)
    answerer = replace(machine.answerer, retriever=cast(Retriever, heard))
    began = time.monotonic()
    first = searched = 0.0
    answer = Answer("", (), (), "no_evidence")
    for event in _patiently(lambda: answerer.stream(question.text, viewer)):
        if isinstance(event, Stage) and event.name == "answering":
            searched = time.monotonic() - began
        if isinstance(event, Piece) and not first:
            first = time.monotonic() - began
        if isinstance(event, Answer):
            answer = event
    seconds = time.monotonic() - began
    refused = answer.ended == "no_evidence"
    return Said(
        question,
        tuple(dict.fromkeys(p.uri for p in heard.last.ranked))[:TOP],
        "" if refused else _MARKERS.sub("", answer.text).strip(),
        refused,
        tuple((c.passage.uri, c.supported) for c in answer.citations),
        sum(s.supported for s in answer.statements),
        seconds,
        first if searched else 0.0,  # without evidence there is nothing to wait for
        searched or seconds,
    )


def _patiently(start: Callable[[], Iterator[object]]) -> Iterator[object]:
    """A busy model server is asked again: nobody else is asked so much at once."""
    for _ in range(60):
        try:
            yield from start()
        except ModelBusy as busy:
            time.sleep(busy.retry_after_s)
        else:
            return
    raise ModelBusy("the model server stays busy")


@dataclass
class Listening:
    """The retriever, which finds TOP and remembers them; the answer is made from as many as ever."""

    inner: Retriever
    last: Retrieval = field(default_factory=Retrieval)

    def retrieve(
        self, question: str, viewer: Viewer, k: int | None = None, *, within: Filter = ANY
    ) -> Retrieval:
        self.last = self.inner.retrieve(question, viewer, max(TOP, k or 0), within=within)
        shown = self.last.passages[: k or self.inner.settings.passages]
        return replace(self.last, passages=shown)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class Paragraphs:
    """A connector over what was read already. Each paragraph can be kept from somebody."""

    kind: ClassVar[str] = "evaluation"
    Settings: ClassVar[type[BaseModel]] = BaseModel

    def __init__(self, paragraphs: Sequence[Paragraph], told: Callable[[int, int], None]) -> None:
        self._paragraphs = paragraphs
        self._told = told

    def check(self) -> None:
        """Nothing can be wrong."""

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        for n, p in enumerate(self._paragraphs, 1):
            yield Upsert(_file(p))
            self._told(n, len(self._paragraphs))
        yield Checkpoint(Cursor("1"), complete=True)

    def file(self, uri: str) -> RawFile:
        for paragraph in self._paragraphs:
            if paragraph.uri == uri:
                return _file(paragraph)
        raise NotVisible(uri)


def _file(p: Paragraph) -> RawFile:
    readers = Layer(frozenset({EVERYONE}), frozenset({Principal(f"user:not-{p.uri}")}))
    return RawFile(
        p.uri,
        "1",
        partial(BytesIO, p.text.encode()),
        (readers,),
        p.title,
        datetime.now(UTC),
        "text/plain",
    )


def _parsed(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"
