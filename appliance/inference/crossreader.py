"""Question and passage read together: does the passage answer, and with which words.

The network is the embedder's own BERT with a low-rank change (`inference/lora.py`) and two small
heads: one score for the passage, and for each token how well an answer begins and ends there
(Devlin et al. 2018, arXiv 1810.04805). "Nowhere" is the first token. Input:
`<s> question </s> passage </s>`, positions running on, one token type.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from appliance.errors import SettingsError
from appliance.inference import bert as packing
from appliance.inference import lora
from appliance.inference.batcher import Batcher
from appliance.inference.cores import Cores
from appliance.inference.embed import (
    CHARS,
    CHARS_A_TOKEN,
    GPU_CHARS,
    GPU_TEXTS,
    TEXTS,
    check_unicode,
    computing,
    halve,
    has_bfloat16,
    with_threads,
)
from appliance.inference.rerank import sigmoid
from appliance.types import Reading, Role, Words

POINTS = 3  # answers looked for in a text
READS = 512  # tokens of question and passage: as many places as the embedder's BERT has
QUESTION_TOKENS = 96
_BEFORE = " \t\r\n\u3000、，。"
_BRACKETS = (("(", ")"), ("（", "）"), ("「", "」"), ("『", "』"), ("【", "】"))


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


class Tokens:
    """The embedder's tokenizer, for pairs."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> Tokens:
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(folder / "tokenizer.json")))

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

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert
        width = bert.config.hidden_size
        self.pad = bert.config.pad_token_id
        self.pool = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)
        self.span = nn.Linear(width, 2)

    @classmethod
    def load(cls, folder: Path) -> Network:
        """On the embedder in `folder`."""
        from transformers import BertConfig, BertModel

        config = BertConfig(**json.loads((folder / "config.json").read_text("utf-8")))
        config._attn_implementation = "sdpa"
        return cls(
            BertModel.from_pretrained(
                str(folder), config=config, add_pooling_layer=False, dtype=torch.float32
            )
        )

    @classmethod
    def beside(cls, bert: Any) -> Network:
        """On a copy of a loaded embedder; the table of words, most of its memory, is shared."""
        words = bert.embeddings.word_embeddings
        return cls(copy.deepcopy(bert, {id(words): words}))

    def forward(self, pairs: Sequence[Pair]) -> Read:
        device = self.score.weight.device
        longest = max(len(p.tokens) for p in pairs)
        tokens = torch.full((len(pairs), longest), self.pad)
        outside = torch.ones((len(pairs), longest), dtype=torch.bool)
        for n, p in enumerate(pairs):
            tokens[n, : len(p.tokens)] = torch.tensor(p.tokens)
            outside[n, p.first : p.first + len(p.offsets)] = False
        outside[:, 0] = False
        tokens, outside = tokens.to(device), outside.to(device)
        seen = (tokens != self.pad).long()
        hidden = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        relevance = self.score(torch.tanh(self.pool(hidden[:, 0]))).squeeze(-1)
        places = self.span(hidden).masked_fill(outside.unsqueeze(-1), -torch.inf)
        return Read(relevance, places[..., 0], places[..., 1])

    def heads(self) -> dict[str, nn.Parameter]:
        named = {"pool": self.pool, "score": self.score, "span": self.span}
        return {f"{n}.{k}": p for n, m in named.items() for k, p in m.named_parameters()}

    def merge(self, adapter: dict[str, Tensor], scale: float) -> None:
        """Take in an adapter's tensors. Raises KeyError, RuntimeError for one of another shape."""
        with torch.no_grad():
            for name, head in self.heads().items():
                head.copy_(adapter[name].float())
        lora.merge(self.bert, adapter, scale)


class LocalReader:
    """The Reader inside `kura infer`: `adapter`, a verified file, on a copy of the embedder's BERT.

    `tokens` may hold the embedder's own tokenizer, which takes a second to load: it is only read.
    Scores are between 0 and 1. As in LocalEmbedder, only products are bfloat16. Raises
    SettingsError for an adapter of another model.
    """

    def __init__(
        self, adapter: Path, bert: Any, tokens: Tokens, name: str, cores: Cores, threads: int = 0
    ) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._threads = threads or os.cpu_count() or 1
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._net = Network.beside(bert)
        try:
            self._net.merge(*lora.read(adapter))
        except (KeyError, RuntimeError) as error:
            raise SettingsError(f"{adapter.name} does not fit the embedder: {error}") from None
        self._net.to(self._device).eval()
        self._tokens = tokens
        self._fast = has_bfloat16(self._device)
        if self._fast:
            halve(self._net)
            self._net.bert = packing.packed(self._net.bert) or self._net.bert
        self._name = name
        gpu = self._device == "cuda"
        self._batches: Batcher[tuple[str, str], Reading] = Batcher(
            self._forward,
            lambda pair: min(len(pair[0]) + len(pair[1]), READS * CHARS_A_TOKEN),
            texts=GPU_TEXTS if gpu else TEXTS,
            chars=GPU_CHARS if gpu else CHARS,
            turn=lambda patient: cores.turn(patient=patient()),
            name="reader",
        )
        self.read("準備", ["準備"])  # the first forward pass is slow; nobody waits for this one

    @property
    def name(self) -> str:
        return self._name

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        return [reading.relevance for reading in self.read(question, texts)]

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        """A text is read up to READS tokens, with the question.

        Raises ModelBusy, ModelUnreachable, and BadRequest for what is no Unicode.
        """
        check_unicode([question, *texts])
        return self._batches.rows([(question, text) for text in texts], "query")

    def close(self) -> None:
        self._batches.close()

    def _forward(self, role: Role, pairs: list[tuple[str, str]]) -> list[Reading]:
        made = [self._tokens.pair(question, text) for question, text in pairs]
        with_threads(self._threads)
        with torch.inference_mode(), computing(self._device, fast=self._fast):
            read = self._net(made)
        read = Read(*(part.float().cpu() for part in (read.relevance, read.starts, read.ends)))
        readings = []
        for n, pair in enumerate(made):
            words = (_one_line(w, pairs[n][1]) for w in spans(read, n, pair, POINTS))
            shown = tuple(w for w in words if w.start < w.end)
            readings.append(Reading(sigmoid(float(read.relevance[n])), shown))
        return readings


def _one_line(words: Words, text: str) -> Words:
    """An answer ends with its line: what follows is another row, or another item.

    It begins with no comma, and a bracket that closes behind it is a part of it.
    """
    said = text[words.start : words.end]
    start = words.start + len(said) - len(said.lstrip(_BEFORE))
    said = said.lstrip(_BEFORE).partition("\n")[0].rstrip()
    end = start + len(said)
    opened, closed = next(((a, b) for a, b in _BRACKETS if said.count(a) > said.count(b)), ("", ""))
    if opened and text.startswith(closed, end):
        end += 1
    return Words(start, end, words.score)


def spans(read: Read, n: int, pair: Pair, most: int, longest: int = 40) -> list[Words]:
    """The best `most` answers of pair `n`, at most `longest` tokens each, no two of them of one token."""
    count = len(pair.offsets)
    if not count:
        return []
    places = slice(pair.first, pair.first + count)
    nowhere = read.starts[n, 0] + read.ends[n, 0]
    table = read.starts[n, places, None] + read.ends[n, None, places] - nowhere
    near = torch.ones(count, count).triu().tril(longest - 1).bool()
    table = table.masked_fill(~near, -torch.inf)
    out: list[Words] = []
    while len(out) < most and (score := float(table.max())) > -torch.inf:
        first, last = divmod(int(table.argmax()), count)
        out.append(Words(pair.offsets[first][0], pair.offsets[last][1], score))
        table[: last + 1, first:] = -torch.inf  # whatever shares a token with it
    return out
