"""What goes over the wire. Every shape that two endpoints share, with an example.

A citation or passage whose document the reader may no longer open is only
`{"withdrawn": true, …number}`: no title, no place, no text.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(max_length=64)]
Family = Literal[
    "pdf", "word", "excel", "powerpoint", "web", "book", "markdown", "csv", "data", "archive", "image", "text", "mail"
]  # fmt: skip
Question = Annotated[str, Field(min_length=1, max_length=4000, examples=["出張の宿泊費の上限は?"])]


WITHIN = Field(
    description="Of a file inside another: the other's title, and the path inside.",
    examples=["蔵の資料.zip › 手引き/蔵の手引き.doc"],
)


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Error(Shape):
    """Every refusal has this body; `error` is a class of the error tree."""

    error: str = Field(examples=["NotVisible"])
    message: str = Field(examples=["見つかりません。"])
    message_en: str = Field(examples=["Not found."])
    request_id: str = Field(examples=["7f3c1b0a9d2e4f58"])
    detail: str | None = None
    retry_after_s: float | None = None


class Span(Shape):
    """[start, end) of a text, in characters: of the document's, or of the answer's."""

    start: int
    end: int


class Version(Shape):
    """Why the document is not the one in force, and which one is."""

    standing: Literal["superseded", "ahead"] = Field(description="ahead: not yet in force.")
    own: date | None = Field(description="When this version came, or comes, into force.")
    document_id: str = Field(description="The version in force.")
    title: str
    since: date | None


Confidentiality = Annotated[
    str | None,
    Field(description="秘密区分, where the document bears one.", examples=["社外秘"]),
]


class Passage(Shape):
    withdrawn: Literal[False] = False
    n: int = Field(description="The number the answer's [n] refers to.", examples=[1])
    document_id: str
    chunk_id: int
    source: str = Field(examples=["総務部 共有フォルダー"])
    uri: str = Field(examples=["規程/旅費規程.docx"])
    title: str = Field(examples=["旅費規程.docx"])
    within: str | None = WITHIN
    label: str = Field(examples=["p. 3 · 第12条"])
    text: str = Field(examples=["宿泊費は一泊一万円を上限とする。"])
    start: int
    end: int
    score: float
    relevance: float | None = Field(
        description="0 to 1: how surely it answers; null where it was not read.", examples=[0.93]
    )
    modified_at: datetime | None
    version: Version | None = Field(description="Set where another version is in force.")
    confidentiality: Confidentiality


class Citation(Shape):
    withdrawn: Literal[False] = False
    marker: int = Field(examples=[1])
    document_id: str
    source: str
    uri: str
    title: str = Field(examples=["旅費規程.docx"])
    within: str | None = WITHIN
    label: str = Field(examples=["p. 3 · 第12条"])
    quote: str = Field(examples=["宿泊費は一泊一万円を上限とする。"])
    span: Span | None
    version: Version | None
    supported: bool = Field(description="Checked against the passage, not assumed.")
    confidentiality: Confidentiality


class Statement(Shape):
    """A sentence of the answer: [start, end) of its text, in characters."""

    start: int
    end: int
    supported: bool = Field(description="A passage it cites says so; any, where it cites none.")
    doubts: list[Span] = Field(description="Numbers and names in it that no such passage has.")


class Pointer(Shape):
    """A place that Kura's reader points at beside the answer."""

    n: int = Field(description="Of the passage, from 1.", examples=[2])
    document_id: str
    source: str
    uri: str
    title: str = Field(examples=["経理FAQ.md"])
    within: str | None = WITHIN
    label: str = Field(examples=["p. 3 · 第12条"])
    quote: str = Field(description="The sentence.", examples=["宿泊費は一泊八千円までです。"])
    span: Span = Field(description="Of the sentence, in the document's text.")
    words: Span = Field(description="Of the words pointed at, inside the sentence.")
    modified_at: datetime | None
    version: Version | None = Field(description="Set where another version is in force.")
    confidentiality: Confidentiality


class WithdrawnPassage(Shape):
    withdrawn: Literal[True] = True
    n: int


class WithdrawnCitation(Shape):
    withdrawn: Literal[True] = True
    marker: int


AnyPassage = Annotated[Passage | WithdrawnPassage, Field(discriminator="withdrawn")]
AnyCitation = Annotated[Citation | WithdrawnCitation, Field(discriminator="withdrawn")]
Ended = Literal["complete", "cut", "cancelled", "no_evidence"]


class Answer(Shape):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "a1b2c3",
                    "conversation_id": "c0ffee",
                    "audit_id": 42,
                    "question": "出張の宿泊費の上限は?",
                    "searched": "出張の宿泊費の上限は?",
                    "answer": "一泊一万円が上限です[1]。",
                    "ended": "complete",
                    "citations": [
                        {
                            "marker": 1,
                            "document_id": "d1",
                            "source": "総務部",
                            "uri": "規程/旅費規程.docx",
                            "title": "旅費規程.docx",
                            "within": None,
                            "label": "p. 3 · 第12条",
                            "quote": "宿泊費は一泊一万円を上限とする。",
                            "span": {"start": 120, "end": 136},
                            "version": None,
                            "supported": True,
                            "confidentiality": "社外秘",
                        }
                    ],
                    "passages": [],
                    "dangling": 0,
                    "statements": [{"start": 0, "end": 13, "supported": True, "doubts": []}],
                    "near": [],
                    "conflicts": [],
                }
            ]
        }
    )
    id: str = Field(description="Names this answer, for rating.")
    conversation_id: str | None
    audit_id: int
    question: str
    searched: str = Field(
        description="What was searched for: a follow-up with what it is about, what is cut short written out."
    )
    answer: str
    ended: Ended
    citations: list[AnyCitation]
    passages: list[AnyPassage]
    dangling: int = Field(description="Markers that pointed nowhere and were taken out.")
    statements: list[Statement] = Field(description="Sentences that state something, in order.")
    near: list[Pointer] = Field(
        description="With `no_evidence`: places that may help, none of them sure."
    )
    conflicts: list[Pointer] = Field(
        description="Documents that give other numbers for what was asked; the cited one first."
    )


class Message(Answer):
    """An answer as history shows it: rendered again from what the reader may see now."""

    model_config = ConfigDict(json_schema_extra={})
    audit_id: int | None  # type: ignore[assignment]
    ended: Ended | Literal["answering"] = Field(  # type: ignore[assignment]
        description="`answering`: the answer is being made, and stands here once it is."
    )
    rating: Literal[-1, 0, 1]
    created_at: datetime


class Begun(Shape):
    """Where the answer will be. From here on a reader who is signed in may leave."""

    id: str
    conversation_id: str


class Stage(Shape):
    name: Literal["searching", "waiting", "answering"]
    position: int | None = None


class Piece(Shape):
    text: str


class User(Shape):
    id: str = Field(examples=["ito"])
    display_name: str = Field(examples=["伊藤 花子"])
    role: Literal["member", "administrator"]


class Done(Shape):
    ok: Literal[True] = True


ERROR: dict[int | str, dict[str, Any]] = {"4XX": {"model": Error}, "5XX": {"model": Error}}
