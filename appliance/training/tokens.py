"""Gemma's SentencePiece tokeniser, read from the GGUF file: the same ids as llama.cpp gives.

Kept small so that training needs no second copy of the vocabulary. Special tokens written in
a text stay plain text (llama.cpp's `special=False`); there is no space before the first word.
Invariant: `Tokens.encode` equals llama.cpp's `tokenize(text, add_bos=False, special=False)`.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BOS = 2
EOS = 1
USER_DEFINED = 4  # GGUF's token type: always split off first, whatever stands around it
_SPACE = "\u2581"  # SentencePiece writes a space as this


@dataclass(frozen=True, slots=True)
class Tokens:
    pieces: Sequence[str]
    ids: Mapping[str, int]
    scores: Sequence[float]
    whole: re.Pattern[str]  # the user-defined tokens, longest first

    def encode(self, text: str) -> list[int]:
        out: list[int] = []
        at = 0
        for match in self.whole.finditer(text):
            out += self._merge(text[at : match.start()])
            out.append(self.ids[match.group()])
            at = match.end()
        return out + self._merge(text[at:])

    def decode(self, ids: Sequence[int]) -> str:
        raw = bytearray()
        for i in ids:
            piece = self.pieces[i]
            if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
                raw.append(int(piece[3:5], 16))
            elif i > EOS + 1:
                raw += piece.replace(_SPACE, " ").encode()
        return raw.decode("utf-8", "replace")

    def _merge(self, text: str) -> list[int]:
        """Join the neighbouring pair with the best score until no pair is a token."""
        parts = list(text.replace(" ", _SPACE))
        after = [*range(1, len(parts)), -1]
        before = list(range(-1, len(parts) - 1))
        queue: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left < 0 or right < 0:
                return
            joined = parts[left] + parts[right]
            token = self.ids.get(joined)
            if token is not None:
                heapq.heappush(queue, (-self.scores[token], left, right, joined))

        for n in range(len(parts) - 1):
            offer(n, n + 1)
        while queue:
            _, left, right, joined = heapq.heappop(queue)
            if not parts[left] or not parts[right] or parts[left] + parts[right] != joined:
                continue  # one of the two was joined elsewhere in the meantime
            parts[left], parts[right] = joined, ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        out: list[int] = []
        for part in filter(None, parts):
            token = self.ids.get(part)
            out += [self.ids[f"<0x{b:02X}>"] for b in part.encode()] if token is None else [token]
        return out


def load(model: Path) -> Tokens:
    from gguf import GGUFReader

    fields = GGUFReader(model).fields
    pieces: list[str] = fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = fields["tokenizer.ggml.token_type"].contents()
    scores: list[float] = fields["tokenizer.ggml.scores"].contents()
    whole = sorted(
        (p for p, kind in zip(pieces, types, strict=True) if kind == USER_DEFINED),
        key=len,
        reverse=True,
    )
    pattern = re.compile("|".join(map(re.escape, whole)) or r"(?!)")
    return Tokens(pieces, {p: i for i, p in enumerate(pieces)}, scores, pattern)
