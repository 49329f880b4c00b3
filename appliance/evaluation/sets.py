"""Questions whose right answers are known: a site's own (JSONL), or a SQuAD-shaped data set.

A line of JSONL: `{"question": …, "viewer": …, "documents": [uri …], "answers": [text …],
"unanswerable": false, "slice": …}`; all but the question may be left out, and `uri`, `answer` and
`accept` are understood too. No document and no answer means that nothing may be answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.errors import BadRequest

TITLE_MARK = " [SEP] "  # JSQuAD writes the title before the text


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    documents: tuple[str, ...] = ()  # uris, any of which answers
    answers: tuple[str, ...] = ()  # any of which is right
    viewer: str = ""  # whose rights it is asked with; empty: whoever evaluates
    slice: str = "answerable"
    withheld: tuple[str, ...] = ()  # what the document that may not be read answers

    @property
    def unanswerable(self) -> bool:
        return not self.documents and not self.answers


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A document of a scratch site."""

    uri: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Set:
    """`paragraphs` is empty where the questions are about the site's own documents."""

    name: str
    digest: str
    questions: tuple[Question, ...]
    paragraphs: tuple[Paragraph, ...] = ()


def read(path: Path) -> Set:
    """Raises BadRequest, naming the line that cannot be read."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise BadRequest(f"{path} を読めません（{error.strerror}）。") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{path} は UTF-8 ではありません。") from None
    digest = hashlib.sha256(data).hexdigest()
    if squad := _squad(text):
        questions, paragraphs = _of_squad(squad, path)
        return Set(path.stem, digest, questions, paragraphs)
    questions = tuple(_of_lines(text, path))
    if not questions:
        raise BadRequest(f"{path} に質問がありません。")
    return Set(path.stem, digest, questions)


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")

    question: str = Field(min_length=1, max_length=4000)
    viewer: str = ""
    documents: list[str] = []
    uri: str = ""
    answers: list[str] = []
    answer: str = ""
    accept: list[str] = []
    unanswerable: bool = False
    slice: str = ""
    kind: str = ""


def _of_lines(text: str, path: Path) -> Iterator[Question]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = _Line.model_validate_json(line)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "形"
            raise BadRequest(
                f"{path} の {number} 行目の {where} が正しくありません。"
                '1 行に一つ、{"question": "…"} の形の JSON を書きます。'
            ) from None
        documents = tuple(u for u in (*row.documents, row.uri) if u)
        answers = tuple(a for a in (*row.answers, row.answer, *row.accept) if a)
        if row.unanswerable:
            documents = answers = ()
        kind = row.slice or row.kind or ("answerable" if documents or answers else "unanswerable")
        yield Question(row.question, documents, answers, row.viewer, kind)


def _squad(text: str) -> list[dict[str, Any]] | None:
    try:
        found = json.loads(text)
        return list(found["data"])
    except (ValueError, KeyError, TypeError):
        return None


def _of_squad(
    articles: list[dict[str, Any]], path: Path
) -> tuple[tuple[Question, ...], tuple[Paragraph, ...]]:
    questions, paragraphs = list[Question](), list[Paragraph]()
    try:
        for article in articles:
            for found in article["paragraphs"]:
                title, text = str(article["title"]).replace("_", " "), str(found["context"])
                if TITLE_MARK in text:
                    title, _, text = text.partition(TITLE_MARK)
                uri = f"{len(paragraphs):05}"
                paragraphs.append(Paragraph(uri, title, text))
                for asked in found["qas"]:
                    answers = tuple(dict.fromkeys(str(a["text"]) for a in asked["answers"]))
                    documents = (uri,) if answers else ()
                    kind = "answerable" if answers else "unanswerable"
                    questions.append(
                        Question(str(asked["question"]).strip(), documents, answers, "", kind)
                    )
    except (KeyError, TypeError) as error:
        raise BadRequest(f"{path} は SQuAD の形ではありません（{error!r}）。") from None
    return tuple(questions), tuple(paragraphs)
