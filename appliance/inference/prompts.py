"""How messages become a prompt, by the format that the model's row of the catalogue names.

Only what is written here is ever used: the template inside a model file is somebody else's program.
A part is either ours, where special tokens are meant, or somebody's text, where they are text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    text: str
    special: bool = False  # written by us: its special tokens are tokens


@dataclass(frozen=True)
class Message:
    role: str  # system | user | assistant
    content: str


@dataclass(frozen=True)
class Rendered:
    """`shared` is the part at the beginning that is the same for everybody who asks."""

    parts: tuple[Part, ...]
    shared: tuple[Part, ...] = ()
    stop: tuple[str, ...] = ()


_PLAIN_STOPS = ("\n\n", "\n質問:", "\n資料[")  # where a base model would go on to the next question


def plain(messages: Sequence[Message]) -> Rendered:
    """For base models: the texts, one after the other."""
    first = messages[0]
    return Rendered(
        (Part("\n\n".join(m.content for m in messages)),),
        (Part(first.content),) if first.role == "system" else (),
        _PLAIN_STOPS,
    )


def chatml(messages: Sequence[Message]) -> Rendered:
    return _turns(messages, "<|im_start|>{role}\n", "<|im_end|>\n", "assistant")


def llama3(messages: Sequence[Message]) -> Rendered:
    head = "<|start_header_id|>{role}<|end_header_id|>\n\n"
    return _turns(messages, head, "<|eot_id|>", "assistant")


def gemma(messages: Sequence[Message]) -> Rendered:
    """Gemma has no system role: what the system says opens the user's first turn."""
    if len(messages) > 1 and messages[0].role == "system":
        joined = f"{messages[0].content}\n\n{messages[1].content}"
        messages = [Message(messages[1].role, joined), *messages[2:]]
    named = [Message("model" if m.role == "assistant" else "user", m.content) for m in messages]
    return _turns(named, "<start_of_turn>{role}\n", "<end_of_turn>\n", "model")


def _turns(messages: Sequence[Message], head: str, tail: str, writer: str) -> Rendered:
    parts: list[Part] = []
    shared: tuple[Part, ...] = ()
    for n, m in enumerate(messages):
        parts += [Part(head.format(role=m.role), True), Part(m.content), Part(tail, True)]
        if n == 0 and m.role == "system":
            shared = tuple(parts)
    parts.append(Part(head.format(role=writer), True))
    return Rendered(tuple(parts), shared)


FORMATS: dict[str, Callable[[Sequence[Message]], Rendered]] = {
    "plain": plain,
    "chatml": chatml,
    "llama3": llama3,
    "gemma": gemma,
}
