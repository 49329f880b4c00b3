"""Trains Kura's retrieval adapter: a LoRA on the embedder that brings questions to their passages.

    python -m appliance.training.retriever train --data DIR --measured FILE --model DIR --out DIR --steps N
    python -m appliance.training.retriever measure --out DIR --data DIR --model DIR
    python -m appliance.training.retriever export --out DIR --adapter FILE

A group (`training/groups.py`) is a question, the passage that answers it, and one that looks as if
it did. Learned is to tell its passage from that one, and from everybody else's in the batch
(InfoNCE, van den Oord et al. 2018, arXiv 1807.03748). Passages are in the form in which they are
indexed: `store/catalog.py::entry_text`. The seed decides the data and the start. Needed: torch,
transformers, numpy.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.inference import lora as adapters
from appliance.training import descent, examples, groups, lora, written
from appliance.types import Role

RANK, ALPHA = 16, 16.0
READS = 256  # tokens: a chunk of an index has no more, but for the longest
_MASKED = -1e4


@dataclass(frozen=True, slots=True)
class Plan(descent.Plan):
    rate: float = 2e-4
    groups_per_step: int = 24
    passages: int = 2  # of a group
    temperature: float = 0.02


# --- data -------------------------------------------------------------------------


def batches(made: Iterator[groups.Group], count: int) -> Iterator[list[groups.Group]]:
    """Answered groups, `count` at a time, no two of which ask for the same passage."""
    answered = (g for g in made if g.right >= 0)
    while True:
        some: dict[str, groups.Group] = {}
        while len(some) < count:
            one = next(answered)
            some.setdefault(one.texts[one.right], one)
        yield list(some.values())


# --- the network ------------------------------------------------------------------


class Network(nn.Module):  # type: ignore[misc]
    """The embedder as `inference/embed.py` runs it: mean of the tokens, rows of length 1."""

    def __init__(self, bert: Any, tokenizer: Any) -> None:
        super().__init__()
        self.bert = bert
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> Network:
        from tokenizers import Tokenizer

        from appliance.inference import crossreader

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(crossreader.Network.load(folder).bert, tokenizer)

    def forward(self, texts: Sequence[str], role: Role) -> Tensor:
        """(n, dim)"""
        rows = [
            e.ids[:READS] for e in self._tokenizer.encode_batch([f"{role}: {t}" for t in texts])
        ]
        longest, pad = max(map(len, rows)), self.bert.config.pad_token_id
        tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        hidden = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        mean = (hidden * seen.unsqueeze(-1)).sum(1) / seen.sum(1, keepdim=True)
        return F.normalize(mean, dim=-1)


def loss(net: Network, some: Sequence[groups.Group], temperature: float) -> Tensor:
    """A mean over the questions. Each passage of the batch stands against each question.

    Office papers are not held against the questions about others: they may answer those as well.
    """
    passages = [text for g in some for text in g.texts]
    owners = torch.tensor([n for n, g in enumerate(some) for _ in g.texts])
    right = [len(g.texts) for g in some]
    right = [sum(right[:n]) + g.right for n, g in enumerate(some)]
    scores = net([g.question for g in some], "query") @ net(passages, "passage").T / temperature
    office = torch.tensor([g.office for g in some])
    own = owners == torch.arange(len(some)).unsqueeze(1)
    doubtful = office.unsqueeze(1) & office[owners] & ~own
    return F.cross_entropy(scores.masked_fill(doubtful, _MASKED), torch.tensor(right))


def train(
    net: Network,
    made: Iterator[groups.Group],
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
    net.eval()

    def learn(some: list[groups.Group]) -> float:
        total = loss(net, some, plan.temperature)
        total.backward()
        return float(total.item())

    taken = batches(made, plan.groups_per_step)
    return descent.descend(learned, taken, learn, plan, out, stop)


# --- measuring --------------------------------------------------------------------


def load(out: Path, model: Path) -> tuple[Network, int]:
    """The network as far as the run in `out` has come, and its step."""
    net = Network.load(model)
    kept = descent.state(out)
    adapters.merge(net.bert, kept["learned"], ALPHA / RANK)
    return net.eval(), int(kept["step"])


def measure(
    net: Network, paragraphs: Sequence[examples.Paragraph], questions: int, seed: int = 5
) -> dict[str, float]:
    """Each question among all paragraphs, by vectors alone."""
    asked = [(n, a.text) for n, p in enumerate(paragraphs) for a in p.asked]
    asked = random.Random(seed).sample(asked, min(questions, len(asked)))
    rows = _rows(net, [groups.titled(p.article, p.text) for p in paragraphs], "passage")
    scores = _rows(net, [text for _, text in asked], "query") @ rows.T
    own = scores[torch.arange(len(asked)), torch.tensor([n for n, _ in asked])]
    places = (1 + (scores > own.unsqueeze(1)).sum(1)).tolist()
    return {
        "recall@1": sum(p == 1 for p in places) / len(places),
        "recall@10": sum(p <= 10 for p in places) / len(places),
        "ndcg@10": sum(1 / math.log2(p + 1) for p in places if p <= 10) / len(places),
    }


def _rows(net: Network, texts: Sequence[str], role: Role, together: int = 16) -> Tensor:
    with torch.no_grad():
        parts = [net(texts[n : n + together], role) for n in range(0, len(texts), together)]
    return torch.cat(parts)


def offices(net: Network, cases: int, seed: int = 6) -> float:
    """Made-up papers that were not learned from, asked loosely: the share found first of a case."""
    dice = random.Random(seed)
    right = total = 0
    while total < cases:
        asked = [g for g in groups.office(dice) if g.right >= 0 and len(g.texts) > 1]
        if not asked:
            continue
        group = groups.loose(asked[0], dice)
        scores = _rows(net, [group.question], "query") @ _rows(net, group.texts, "passage").T
        right += int(scores.argmax()) == group.right
        total += 1
    return right / total


# --- the command ------------------------------------------------------------------


def export(out: Path, adapter: Path) -> None:
    """The adapter and, beside it, the facts of its run."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    lora.save(adapter, descent.state(out)["learned"], ALPHA / RANK)
    descent.card(out, adapter, RANK, ALPHA)


def main(arguments: Sequence[str] | None = None) -> None:
    given = descent.parser("Kura's retrieval adapter", Plan(), questions=400).parse_args(arguments)
    if given.verb == "export":
        export(given.out, given.adapter)
        return
    torch.set_num_threads(given.threads)
    if given.verb == "measure":
        read = examples.read(given.data.glob("jaquad_dev_*.json"))
        for net, step in ((Network.load(given.model).eval(), 0), load(given.out, given.model)):
            figures = measure(net, read, given.questions) | {"office@1": offices(net, 200)}
            print(json.dumps({"step": step} | {k: round(v, 3) for k, v in figures.items()}))
        return
    plan = Plan(seed=given.seed, steps=given.steps, rate=given.rate)
    asked = written.made(written.read(), random.Random(plan.seed), plan.passages)
    maker = groups.Maker(descent.prepare(given, plan), plan.passages, 0, asked)
    made = maker.groups(random.Random(plan.seed))
    train(Network.load(given.model), made, plan, given.out, given.stop, given.start)


if __name__ == "__main__":
    main()
