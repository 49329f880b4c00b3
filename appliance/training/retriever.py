"""Trains Kura's retrieval adapter: a LoRA on the embedder that brings questions to their passages.

    python -m appliance.training.retriever train --packed DIR --out DIR --steps N
    python -m appliance.training.retriever measure --out DIR --data DIR --model DIR
    python -m appliance.training.retriever export --out DIR --adapter FILE [--mean-with FILE --share .5]

A group (`training/packed.py`) is a question, the passage that answers it, and some that look as if
they did. Learned is to tell its passage from those, and from everybody else's in the batch
(InfoNCE, van den Oord et al. 2018, arXiv 1807.03748). Passages are in the form in which they are
indexed: `store/catalog.py::entry_text`. The seed decides the order and the start. Needed: torch,
transformers, numpy.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.inference import embed
from appliance.inference import lora as adapters
from appliance.training import descent, examples, groups, lora, packed, written
from appliance.types import Role

RANK, ALPHA = 32, 32.0
READS = 256  # tokens: a chunk of an index has no more, but for the longest
_MASKED = -1e4


@dataclass(frozen=True, slots=True)
class Plan(descent.Plan):
    rate: float = 2e-4
    groups_per_step: int = 24
    temperature: float = 0.02


def distinct(some: Iterable[packed.Group]) -> list[packed.Group]:
    """No two of which ask for the same passage."""
    return list({tuple(g.texts[g.right]): g for g in some}.values())


# --- the network ------------------------------------------------------------------


class Network(nn.Module):  # type: ignore[misc]
    """The embedder as `inference/embed.py` runs it: mean of the tokens, rows of length 1."""

    def __init__(self, bert: Any, before: Mapping[Role, list[int]]) -> None:
        super().__init__()
        self.bert = bert
        self._before = before

    @classmethod
    def load(cls, folder: Path, before: Mapping[Role, list[int]]) -> Network:
        """`before`: the tokens that a role sets before a text."""
        from appliance.inference import crossreader

        return cls(crossreader.Network.load(folder).bert, before)

    def forward(self, texts: Sequence[Sequence[int]], role: Role) -> Tensor:
        """(n, dim), of texts as tokens, none of them special."""
        start = [packed.BEGIN, *self._before[role]]
        rows = [[*start, *text[: READS - len(start) - 1], packed.END] for text in texts]
        longest, pad = max(map(len, rows)), self.bert.config.pad_token_id
        tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        tokens = tokens.to(self.bert.device)
        seen = (tokens != pad).long()
        hidden = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state.float()
        mean = (hidden * seen.unsqueeze(-1)).sum(1) / seen.sum(1, keepdim=True)
        return F.normalize(mean, dim=-1)


def loss(
    net: Network,
    some: Sequence[packed.Group],
    temperature: float,
    numbers: descent.Numbers = "float32",
) -> Tensor:
    """A mean over the questions. Each passage of the batch stands against each question.

    Office papers are not held against the questions about others: they may answer those as well.
    """
    passages = [text for g in some for text in g.texts]
    owners = torch.tensor([n for n, g in enumerate(some) for _ in g.texts])
    first = [0, *itertools.accumulate(len(g.texts) for g in some)]
    right = torch.tensor([at + g.right for at, g in zip(first, some, strict=False)])
    with embed.computing(net.bert.device.type, fast=numbers == "bfloat16"):
        asked, rows = net([g.question for g in some], "query"), net(passages, "passage")
    scores = asked @ rows.T / temperature
    office = torch.tensor([g.office for g in some])
    own = owners == torch.arange(len(some)).unsqueeze(1)
    doubtful = office.unsqueeze(1) & office[owners] & ~own
    scores = scores.masked_fill(doubtful.to(scores.device), _MASKED)
    return F.cross_entropy(scores, right.to(scores.device))


def train(
    net: Network,
    found: packed.Packed,
    plan: Plan,
    out: Path,
    stop: Path,
    start: Path | None = None,
) -> int:
    """The steps reached. `start` is an adapter to go on from."""
    dice = torch.Generator().manual_seed(plan.seed)
    learned = lora.start(net.bert, RANK, ALPHA / RANK, dice)
    if start:
        descent.take(learned, adapters.read(start)[0])
    lora.ready(net, plan)
    if plan.device == "cuda":  # a step's questions stand in one pass: more time than memory
        net.bert.gradient_checkpointing_enable({"use_reentrant": False})

    def learn(some: list[packed.Group]) -> float:
        total = loss(net, distinct(some), plan.temperature, plan.numbers)
        total.backward()
        return float(total.item())

    batches = found.batches(plan.seed, plan.groups_per_step, answered=True)
    return descent.descend(learned, batches, learn, plan, out, stop)


# --- measuring --------------------------------------------------------------------


class Words:
    """The embedder's tokenizer: texts as `Network` takes them."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.before: dict[Role, list[int]] = {
            role: self.rows([f"{role}:"])[0] for role in ("query", "passage")
        }

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids[1:-1] for e in self._tokenizer.encode_batch(list(texts))]


def load(out: Path, model: Path, before: Mapping[Role, list[int]]) -> tuple[Network, int]:
    """The network as far as the run in `out` has come, and its step."""
    net = Network.load(model, before)
    kept = descent.state(out)
    adapters.merge(net.bert, kept["learned"], ALPHA / RANK)
    return net.eval(), int(kept["step"])


def measure(
    net: Network,
    words: Words,
    paragraphs: Sequence[examples.Paragraph],
    questions: int,
    seed: int = 5,
) -> dict[str, float]:
    """Each question among all paragraphs, by vectors alone."""
    asked = [(n, a.text) for n, p in enumerate(paragraphs) for a in p.asked]
    asked = random.Random(seed).sample(asked, min(questions, len(asked)))
    rows = _rows(net, words, [groups.titled(p.article, p.text) for p in paragraphs], "passage")
    scores = _rows(net, words, [text for _, text in asked], "query") @ rows.T
    own = scores[torch.arange(len(asked)), torch.tensor([n for n, _ in asked])]
    places = (1 + (scores > own.unsqueeze(1)).sum(1)).tolist()
    return {
        "recall@1": sum(p == 1 for p in places) / len(places),
        "recall@10": sum(p <= 10 for p in places) / len(places),
        "ndcg@10": sum(1 / math.log2(p + 1) for p in places if p <= 10) / len(places),
    }


def at_work(
    net: Network, words: Words, papers: Sequence[written.Paper], size: int = 400
) -> dict[str, float]:
    """Questions of colleagues among the chunks of all companies that were not learned from."""
    cut: list[tuple[written.Paper, written.Piece]] = []
    for some in written.companies(papers, measured=True):
        cut += [(some[piece.paper], piece) for piece in written.pieces(some, size)]
    asked = [
        (question.text, place)
        for place, (paper, piece) in enumerate(cut)
        for question in paper.asked
        if piece.start <= question.start and question.end <= piece.end
    ]
    rows = _rows(net, words, [piece.shown for _, piece in cut], "passage")
    scores = _rows(net, words, [text for text, _ in asked], "query") @ rows.T
    own = scores[torch.arange(len(asked)), torch.tensor([n for _, n in asked])]
    places = 1 + (scores > own.unsqueeze(1)).sum(1)
    return {f"work_recall@{k}": float((places <= k).float().mean()) for k in (1, 5, 20)}


def _rows(
    net: Network, words: Words, texts: Sequence[str], role: Role, together: int = 16
) -> Tensor:
    made = words.rows(texts)
    order = sorted(range(len(made)), key=lambda n: len(made[n]))
    out = torch.empty(len(made), net.bert.config.hidden_size)
    with torch.no_grad():
        for n in range(0, len(order), together):
            some = order[n : n + together]
            out[some] = net([made[i] for i in some], role)
    return out


# --- the command ------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    plan = Plan()
    given = descent.parser("Kura's retrieval adapter", plan, questions=400).parse_args(arguments)
    if given.verb == "export":
        lora.export(given.out, given.adapter, RANK, ALPHA, given.mean_with, given.share)
    elif given.verb == "measure":
        torch.set_num_threads(given.threads)
        words = Words(given.model)
        read = examples.read(given.data.glob("jaquad_dev_*.json"))
        fresh = Network.load(given.model, words.before).eval()
        for net, step in ((fresh, 0), load(given.out, given.model, words.before)):
            figures = measure(net, words, read, given.questions)
            figures |= at_work(net, words, written.read())
            print(json.dumps({"step": step} | {k: round(v, 3) for k, v in figures.items()}))
    else:
        plan = descent.planned(given, plan)
        found = packed.Packed(given.packed)
        descent.begin(given, plan, found.facts)
        net = Network.load(found.folder / "model", found.before)
        train(net, found, plan, given.out, given.stop, given.start)


if __name__ == "__main__":
    main()
