"""What is asked of the engine and what it says back: plain values that both processes know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length", "cancelled", "error"]
EVERYBODY = "*"  # the owner whose prefixes all may reuse


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 40
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    grammar: str = ""  # GBNF
    logprobs: int = -1  # how many alternatives; -1: none wanted
    ignore_eos: bool = False

    @property
    def plain(self) -> bool:
        """Nothing but the likeliest token is asked for."""
        return (
            self.temperature == 0
            and self.repeat_penalty == 1
            and not self.frequency_penalty
            and not self.presence_penalty
            and not self.dry_multiplier
        )


@dataclass(frozen=True)
class Work:
    """A request in tokens. The first `shared` of them may be reused by everybody, the rest only
    by requests of the same owner."""

    id: int
    tokens: list[int]
    limit: int
    shared: int = 0
    owner: str = EVERYBODY
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def reserved(self) -> int:
        """The cells it may come to need, drafts not counted."""
        return len(self.tokens) + self.limit


@dataclass(frozen=True)
class Waiting:
    position: int  # from 1


@dataclass(frozen=True)
class Piece:
    text: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class End:
    finish: Finish
    prompt_tokens: int = 0
    tokens: int = 0
    message: str = ""
    reused: int = 0  # prompt tokens that were in the cache


Event = Waiting | Piece | End


@dataclass(frozen=True)
class Entry:
    """One token of a batch."""

    token: int
    position: int
    sequence: int
    wanted: bool  # whether its logits are read


class NoRoom(Exception):
    """The context has no cells for the batch: an error in the accounting."""


DRAFT_TOKENS = 6  # looked ahead at once, in one stream
GUESSES = 24  # in one step, of all streams: each costs a row of logits
PREFILL_TOKENS = (
    2048  # of the context in which a CPU reads prompts; longer ones are read beside others
)
BATCH_TOKENS = 256  # most of one step: up to .9 s on two cores, while streams and cancels wait
