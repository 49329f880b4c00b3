"""A question to a checked answer: retrieve, fit, ask the model, clean what it says, cite.

The events of one answer come in this order: `Stage("searching")`, `Found`, `Stage("answering")`,
`Piece` …, `Answer`. The pieces joined are the answer's text, except where the model went
round in circles (then the text is their beginning), miscounted its marker, refused late, or was
not to be trusted. What a small model says beside a reader is shown when the reader has been heard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

from appliance.ask import budget, cite, converse, courtesy, extract, prompt, weigh
from appliance.ports import Generator
from appliance.search import evidence
from appliance.search.retrieve import ANY, Retrieval, Retriever
from appliance.settings import Settings
from appliance.store import access
from appliance.text import articles, split
from appliance.types import (
    Answer,
    Citation,
    Ended,
    Filter,
    Passage,
    Pointer,
    Span,
    Turn,
    Viewer,
    Waiting,
)

NOT_FOUND = "資料に見つかりません。"
NOT_ALL_SEARCHED = (
    "探せた資料には見つかりません。閲覧権限をいま確かめられない情報源があり、その文書は探していません。"
    "しばらくしてから、もう一度お尋ねください。"
)

# What a small model is given where a reader has chosen: less to mistake, and sooner read.
CHOSEN, CHOSEN_TOKENS = 3, 400
_WHOLE = 1200  # characters of an article that is shown: all of most
_FULL = 0.75  # of a chunk's size

_STOP = re.compile(r"\n\s*(?:質問|資料|答え)\s*[\[［:：]|<(?:end_of_turn|start_of_turn|eos|bos)>")
# what may still become a marker, a stop or the blank before one
_UNSURE = re.compile(
    rf"\s*(?:{cite.UNFINISHED}|\n\s*(?:質問?|資料?|答え?)\s*|<[a-z_]{{0,14}})?\s*$"
)
# an answer that begins like this may turn out to be a refusal
_OPENINGS = (
    "資料",
    "文書",
    "情報",
    "記載",
    "該当",
    "この資料",
    "その資料",
    "提示された資料",
    "与えられた資料",
)
_GUARDED = re.compile(rf"^(?:{'|'.join(_OPENINGS)})[^。\n]{{0,50}}。?$")
_HALF_MARKER = re.compile(rf"\s*{cite.UNFINISHED}$")
_MARKERS = re.compile(r"(?:\s*\[\d+\])*\s*")
_LOOP = re.compile(r"(.{4,80}?)\1{3,}\s*$", re.DOTALL)
# In a row: the cells of a table repeat each other, 「| ○ | ○ | ○ | ○ |」, 「|---|---|---|---|」.
_CELLS = 40
_REFUSAL = re.compile(
    r"^(?:(?:この|その|提示された|与えられた)?(?:資料|文書|情報)(?:の中)?(?:に|から)は?)?[^。\n]{0,30}?"
    r"(?:記載|記述|情報|答え|該当)[^。\n]{0,8}(?:ありません|ない|されていません|見つかりません|見当たりません)(?:です)?。?$"
)


@dataclass(frozen=True, slots=True)
class Stage:
    name: Literal["searching", "waiting", "answering"]
    position: int | None = None  # in the queue before the model


@dataclass(frozen=True, slots=True)
class Found:
    """What the model is given; the n of a marker is a place in here, from 1."""

    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    text: str


Event = Stage | Found | Piece | Answer


@dataclass(frozen=True, slots=True)
class Looked:
    """What was searched for, and what of it the viewer is answered from; `all` of theirs was searched, or not."""

    asked: str
    viewer: Viewer
    passages: tuple[Passage, ...]
    all: bool

    @property
    def nothing(self) -> str:
        """What is said where nothing answers."""
        return NOT_FOUND if self.all else NOT_ALL_SEARCHED


@dataclass(frozen=True)
class Answerer:
    retriever: Retriever
    generator: Generator
    settings: Settings
    caution: float = 0.0  # share of what is asked that a cited passage must speak of; 0: show all

    def stream(
        self,
        question: str,
        viewer: Viewer,
        history: Sequence[Turn] = (),
        cancelled: Callable[[], bool] = lambda: False,
        *,
        within: Filter = ANY,
    ) -> Iterator[Event]:
        """From the documents `within` means. Raises NotReady, ModelBusy, ModelUnreachable, PromptTooLong."""
        if reply := courtesy.reply(question):
            yield Found(())
            yield Piece(reply)
            yield Answer(reply, (), (), "complete", question)
            return
        asked = converse.standalone(question, history)
        yield Stage("searching")
        found = self.retriever.retrieve(asked, viewer, within=within)
        asked = found.question
        held = bool(self.caution) and any(p.words for p in found.passages)
        found = replace(found, passages=tuple(weigh.weighed(asked, found.passages)))
        whole, goes_on = self._whole(found) if held else (None, False)
        fitted = [whole] if whole else self._fitted(found, history, held)
        passages = self._allowed(viewer, fitted)
        looked = Looked(asked, viewer, passages, all=not found.withheld)
        yield Found(passages)
        if not passages:
            yield Piece(looked.nothing)
            yield self._refusal(looked)
            return
        yield Stage("answering")
        speech = Speech(len(passages))
        if whole:  # what stands there need not be said again
            text, place = extract.beginning(passages[0], goes_on=goes_on)
            yield from self._settled(looked, speech, text, place)
            return
        limit = self.settings.answer_tokens
        built = prompt.build(asked, passages)
        pieces: Any = self.generator.stream(built, limit, cancelled, viewer.user_id)
        with closing(pieces):
            for piece in pieces:
                if isinstance(piece, Waiting):
                    yield _stage(piece)
                    continue
                if (shown := speech.hear(piece)) and not held:
                    yield Piece(shown)
                if speech.over:
                    break
        if held and not cancelled():
            text = extract.settle(asked, "" if speech.refused else speech.text, passages)
            yield from self._settled(looked, speech, text)
        else:
            yield from self._ending(looked, speech, cancelled(), held)

    def _fitted(self, found: Retrieval, history: Sequence[Turn], held: bool) -> list[Passage]:
        passages, settings = found.passages, self.settings
        if held:
            most = min(settings.prompt_tokens, CHOSEN_TOKENS)
            passages, settings = passages[:CHOSEN], replace(settings, prompt_tokens=most)
        before = history[-1].passages if history else ()
        return budget.fit(found.question, passages, self.generator, settings, before)

    def _whole(self, found: Retrieval) -> tuple[Passage | None, bool]:
        """The article or section that is asked for as it stands, and whether it may go on after that."""
        name = articles.asked_whole(found.question) or ""
        asked = (p for p in found.passages if extract.asked_whole(found.question, p))
        passage = next(asked, None) or extract.section(found.question, found.passages)
        if passage is None:
            return None, False
        hit = passage.hit or Span(passage.start, passage.end)
        first, last = hit.start - passage.start, hit.end - passage.start
        name = name or min(articles.named(passage.label), default="")
        place = articles.place(passage.text, name)
        heading, at = extract.heading(passage)
        start, end = place or (at if heading and at <= last else first, last)
        # a chunk is filled up; a short one ended with its section
        full = last - first >= self.settings.chunk_chars * _FULL
        goes_on = not place and full and bool(passage.text[last:].strip())
        text = passage.text[start : min(end, start + _WHOLE)].rstrip()
        span = Span(passage.start + start, passage.start + start + len(text))
        return replace(passage, text=text, start=span.start, end=span.end, hit=span), goes_on

    def _allowed(self, viewer: Viewer, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        """Those the viewer may read at this moment: fitting may have waited for the model."""
        ids = {p.document_id for p in passages}
        visible = access.visible_documents(self.retriever.engine, viewer, ids) if ids else set()
        return tuple(p for p in passages if p.document_id in visible)

    def _settled(
        self, looked: Looked, speech: Speech, text: str, shown: Span | None = None
    ) -> Iterator[Event]:
        """The end of an answer, `text`, for which the reader is heard as well as the model.

        `shown` is where all of it stands in the first passage, if it is a part of that.
        """
        asked, passages = looked.asked, looked.passages
        cited = cite.cite(text, passages)
        if not text or not any(c.supported for c in cited.citations):
            yield Piece(looked.nothing)
            yield self._refusal(looked)
            return
        yield Piece(cited.text)
        citations = cited.citations
        if shown:
            first = passages[0]
            whole = first.text[shown.start - first.start : shown.end - first.start]
            citations = tuple(replace(c, span=shown, quote=whole) for c in citations)
        citations = self._placed(looked.viewer, citations)
        own = text == speech.text
        ended: Ended = "cut" if own and self._cut(speech) else "complete"
        dangling = speech.dangling if own else 0
        said = cited.statements
        against = self._pointed(looked.viewer, extract.conflicts(asked, cited.text, passages))
        yield Answer(
            cited.text, citations, passages, ended, asked, dangling, said, conflicts=against
        )

    def _ending(
        self, looked: Looked, speech: Speech, cancelled: bool, held: bool
    ) -> Iterator[Event]:
        asked, passages = looked.asked, looked.passages
        if held and speech.shown:  # stopped before the reader was heard
            yield Piece(speech.shown)
        if not cancelled and speech.refused:
            if not speech.shown:
                yield Piece(looked.nothing)
            yield self._refusal(looked)
            return
        if rest := speech.finish():
            yield Piece(rest)
        cited = cite.cite(speech.text, passages)
        if not cancelled and not self._trusted(asked, cited.citations):
            yield self._refusal(looked)
            return
        if added := cited.text[len(speech.text) :]:
            yield Piece(added)
        ended: Ended = "cancelled" if cancelled else "cut" if self._cut(speech) else "complete"
        citations = self._placed(looked.viewer, cited.citations)
        said = cited.statements
        if ended != "complete" and said and not split.SENTENCE_END.search(cited.text[-4:]):
            said = said[:-1]  # it broke off in the middle of it
        against = self._pointed(looked.viewer, extract.conflicts(asked, cited.text, passages))
        yield Answer(
            cited.text, citations, passages, ended, asked, speech.dangling, said, conflicts=against
        )

    def _refusal(self, looked: Looked) -> Answer:
        found = extract.near(looked.asked, looked.passages)
        near = self._pointed(looked.viewer, found)
        text, passages = looked.nothing, looked.passages
        return Answer(text, (), passages, "no_evidence", looked.asked, near=near)

    def _trusted(self, asked: str, citations: Sequence[Citation]) -> bool:
        """Whether an answer of a cautious model may stand: some source says so, and of this.

        A small model copies words that stand in a passage but answer something else; then the
        passage rarely speaks of what the question is about.
        """
        if not self.caution:
            return True
        rarity = self.retriever.keyword.rarity(evidence.telling(asked))
        return any(
            c.supported
            and evidence.coverage(rarity, f"{c.passage.title}\n{c.passage.label}\n{c.passage.text}")
            >= self.caution
            for c in citations
        )

    def _placed(self, viewer: Viewer, citations: Sequence[Citation]) -> tuple[Citation, ...]:
        """Each with the place of its words: a passage may begin a page or a 条 before them."""
        starts = [c.span.start if c.span else c.passage.start for c in citations]
        found = self._labels(viewer, [c.passage for c in citations], starts)
        return tuple(
            replace(c, label=label if c.span else c.passage.label)
            for c, label in zip(citations, found, strict=True)
        )

    def _pointed(self, viewer: Viewer, pointers: Sequence[Pointer]) -> tuple[Pointer, ...]:
        found = self._labels(
            viewer, [p.passage for p in pointers], [p.span.start for p in pointers]
        )
        return tuple(replace(p, label=label) for p, label in zip(pointers, found, strict=True))

    def _labels(
        self, viewer: Viewer, passages: Sequence[Passage], starts: Sequence[int]
    ) -> list[str]:
        wanted = [(p.document_id, at) for p, at in zip(passages, starts, strict=True)]
        return access.labels(self.retriever.engine, viewer, wanted) if wanted else []

    def _cut(self, speech: Speech) -> bool:
        """Whether the limit ended the answer; a port does not say, so its tokens are counted."""
        if speech.looped:
            return True
        if speech.over or len(speech.heard) < self.settings.answer_tokens // 2:
            return False
        return self.generator.count_tokens(speech.heard) >= self.settings.answer_tokens


def _stage(waiting: Waiting) -> Stage:
    return Stage("waiting", waiting.position) if waiting.position else Stage("answering")


class Speech:
    """What a model says, cleaned as it comes; nothing is shown that could still change.

    Invariant: what `hear` and `finish` returned, joined, is `text`, however the pieces were cut;
    only a model that goes round in circles has said more than that by the time it is noticed.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.heard = ""
        self.shown = ""
        self.over = False  # no need to hear more
        self.looped = False

    @property
    def text(self) -> str:
        return self._clean(self.heard)[0].strip()

    @property
    def dangling(self) -> int:
        return self._clean(self.heard)[1]

    @property
    def refused(self) -> bool:
        """It said that the passages do not tell, or it said nothing."""
        text = _MARKERS.sub("", self.text)
        return not text or text.startswith(prompt.REFUSAL) or bool(_REFUSAL.match(text))

    def hear(self, piece: str) -> str:
        """Take in a piece; returns what may be shown now."""
        self.heard += piece
        if stop := _STOP.search(self.heard):
            self.heard = self.heard[: stop.start()]
            self.over = True
        if (loop := _LOOP.search(self.heard)) and not _a_row(loop):
            self.heard = self.heard[: loop.start()] + loop.group(1)
            self.over = self.looped = True
        begun = self.heard.lstrip()
        if begun.startswith(prompt.REFUSAL):
            self.over = True
        if not self.over and not _undecided(self.text):
            return self._show(self.heard[: _sure(self.heard)])
        return ""

    def finish(self) -> str:
        """What is left to show, once there is no more to hear."""
        return self._show(self.heard)

    def _show(self, heard: str) -> str:
        text = self._clean(heard)[0].strip()
        fresh = text[len(self.shown) :]
        self.shown += fresh
        return fresh

    def _clean(self, heard: str) -> tuple[str, int]:
        return cite.clean(_HALF_MARKER.sub("", heard), self._count)


def _a_row(loop: re.Match[str]) -> bool:
    """Whether what repeats itself is but the cells of one row."""
    unit = loop.group(1)
    return "|" in unit and "\n" not in unit and len(loop.group().rstrip()) < _CELLS * len(unit)


def _undecided(begun: str) -> bool:
    """Whether an answer that begins so may still say nothing, or refuse."""
    if _MARKERS.fullmatch(begun) or prompt.REFUSAL.startswith(begun) or _GUARDED.match(begun):
        return True
    return any(opening.startswith(begun) for opening in _OPENINGS)


def _sure(heard: str) -> int:
    """Up to where nothing that comes can change what is shown."""
    unsure = _UNSURE.search(heard)
    return unsure.start() if unsure else len(heard)
