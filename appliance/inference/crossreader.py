"""Question and passage read together: does the passage answer, and with which words.

The network is the embedder's own BERT with a low-rank change to every linear layer (LoRA, Hu et
al. 2021, arXiv 2106.09685) and two small heads: one score for the passage, and for each token
how well an answer begins and ends there (Devlin et al. 2018, arXiv 1810.04805). "Nowhere" is the
first token. Input: `<s> question </s> passage </s>`, positions running on, one token type.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

READS = 512  # tokens of question and passage: as many places as the embedder's BERT has
QUESTION_TOKENS = 96
LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with one passage, as tokens. `offsets` are of the passage's characters."""

    tokens: list[int]
    first: int  # where the passage's tokens begin
    offsets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Read:
    relevance: Tensor  # (n,)
    starts: Tensor  # (n, t), -inf where no answer can begin; 0 stands for "nowhere"
    ends: Tensor  # (n, t)


class Words:
    """The embedder's tokenizer, for pairs."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def pair(self, question: str, text: str) -> Pair:
        """A long question is cut at its end, then the passage at its end."""
        asked = self._tokenizer.encode(question).ids[:-1][:QUESTION_TOKENS]
        end = self._tokenizer.encode("").ids[-1]
        read = self._tokenizer.encode(text)
        room = READS - len(asked) - 2
        tokens = [*asked, end, *read.ids[1:-1][:room], end]
        return Pair(tokens, len(asked) + 1, read.offsets[1:-1][:room])


class Network(nn.Module):  # type: ignore[misc]
    """Without `start_lora` or `merge` its relevance and spans mean nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(**json.loads((folder / "config.json").read_text("utf-8")))
        config._attn_implementation = "sdpa"
        self.bert = BertModel.from_pretrained(
            str(folder), config=config, add_pooling_layer=False, dtype=torch.float32
        )
        width = config.hidden_size
        self.pad = config.pad_token_id
        self.pool = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)
        self.span = nn.Linear(width, 2)

    def forward(self, pairs: Sequence[Pair]) -> Read:
        longest = max(len(p.tokens) for p in pairs)
        tokens = torch.full((len(pairs), longest), self.pad)
        outside = torch.ones((len(pairs), longest), dtype=torch.bool)
        for n, p in enumerate(pairs):
            tokens[n, : len(p.tokens)] = torch.tensor(p.tokens)
            outside[n, p.first : p.first + len(p.offsets)] = False
        outside[:, 0] = False
        seen = (tokens != self.pad).long()
        hidden = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        relevance = self.score(torch.tanh(self.pool(hidden[:, 0]))).squeeze(-1)
        places = self.span(hidden).masked_fill(outside.unsqueeze(-1), -torch.inf)
        return Read(relevance, places[..., 0], places[..., 1])

    def linear(self) -> dict[str, nn.Linear]:
        """The layers that are changed, by their names in the adapter."""
        found: dict[str, nn.Linear] = {}
        for n, layer in enumerate(self.bert.encoder.layer):
            for name in LINEAR:
                found[f"{n}.{name}"] = layer.get_submodule(name)
        return found

    def heads(self) -> dict[str, nn.Parameter]:
        named = {"pool": self.pool, "score": self.score, "span": self.span}
        return {f"{n}.{k}": p for n, m in named.items() for k, p in m.named_parameters()}

    def merge(self, adapter: dict[str, Tensor], scale: float) -> None:
        """Take in an adapter's tensors. Raises KeyError, RuntimeError for one of another shape."""
        with torch.no_grad():
            for name, head in self.heads().items():
                head.copy_(adapter[name].float())
            for name, layer in self.linear().items():
                a, b = adapter[f"{name}.lora_a"].float(), adapter[f"{name}.lora_b"].float()
                layer.weight += scale * (b @ a)


def spans(read: Read, n: int, pair: Pair, most: int, longest: int = 40) -> list[tuple[Any, ...]]:
    """The best `most` (start, end, score) of pair `n`, in characters of its passage.

    Scores are log-odds against "nowhere".
    """
    count = len(pair.offsets)
    if not count:
        return []
    places = slice(pair.first, pair.first + count)
    nowhere = read.starts[n, 0] + read.ends[n, 0]
    table = read.starts[n, places, None] + read.ends[n, None, places] - nowhere
    near = torch.ones(count, count).triu().tril(longest - 1).bool()
    table = table.masked_fill(~near, -torch.inf)
    best = table.flatten().topk(min(most, int(near.sum())))
    out = []
    for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        first, last = divmod(place, count)
        out.append((pair.offsets[first][0], pair.offsets[last][1], score))
    return out
