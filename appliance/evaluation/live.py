"""A site's own questions, asked of the running machine through its API, with each viewer's rights."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from appliance.evaluation.measures import TOP, Said
from appliance.evaluation.sets import Question

_MARKERS = re.compile(r"\[\d+\]")

Call = Callable[[str, str, dict[str, Any]], Any]  # method, path, body
Door = Callable[[str], AbstractContextManager[Call]]  # for a user; "": an administrator
Progress = Callable[[str, int, int], None]


def ask(questions: Sequence[Question], door: Door, progress: Progress) -> list[Said]:
    """Raises what the door raises: SettingsError where nobody answers or a viewer is unknown."""
    said = []
    with ExitStack() as doors:
        calls: dict[str, Call] = {}
        for n, question in enumerate(questions, 1):
            if question.viewer not in calls:
                calls[question.viewer] = doors.enter_context(door(question.viewer))
            said.append(one(calls[question.viewer], question))
            progress("質問", n, len(questions))
    return said


def one(call: Call, question: Question) -> Said:
    began = time.monotonic()
    wanted = {"question": question.text, "k": TOP, "rerank": True}
    found = call("POST", "/api/v1/search", wanted)["passages"]
    searched = time.monotonic()
    answer = call("POST", "/api/v1/query", {"question": question.text})
    refused = answer["ended"] == "no_evidence"
    return Said(
        question,
        tuple(dict.fromkeys(p["uri"] for p in found)),
        "" if refused else _MARKERS.sub("", answer["answer"]).strip(),
        refused,
        tuple((c["uri"], c["supported"]) for c in answer["citations"]),
        sum(s["supported"] for s in answer.get("statements", ())),
        time.monotonic() - searched,
        search_s=searched - began,
    )
