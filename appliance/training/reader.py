"""Trains Kura's reader: a LoRA on the embedder's own BERT that reranks and points.

    python -m appliance.training.reader train --data DIR --measured FILE --out DIR --steps N
    python -m appliance.training.reader measure --out DIR --data DIR
    python -m appliance.training.reader export --out DIR --adapter FILE

A group (`training/groups.py`) is one question with several passages. Learned are which passage it is (softmax over the group), whether each answers at all, and the words of the
answer; "nowhere" for the others. The seed decides the data and the start. Training stops when
`--stop` appears, state saved, and goes on from there. Needed: torch, transformers, numpy.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.inference import crossreader, embed
from appliance.inference.lora import read as read_adapter
from appliance.training import descent, evaluate, examples, groups, lora, written

RANK, ALPHA = 64, 64.0
TOGETHER = 3  # groups in one forward pass


@dataclass(frozen=True, slots=True)
class Plan(descent.Plan):
    groups_per_step: int = 12
    passages: int = 2  # of a group: words are learned from the one that answers alone
    unanswered: float = 0.12  # groups without the passage that answers


# --- training ---------------------------------------------------------------------


def start_lora(net: crossreader.Network, seed: int) -> dict[str, nn.Parameter]:
    """What is learned, by its name in the adapter. All else is frozen."""
    torch.manual_seed(seed)
    dice = torch.Generator().manual_seed(seed)
    heads = dict(net.heads())
    for name, head in heads.items():
        if name.endswith("weight"):
            nn.init.normal_(head, std=0.02, generator=dice)
        else:
            nn.init.zeros_(head)
    return heads | lora.start(net.bert, RANK, ALPHA / RANK, dice)


def target(pair: crossreader.Pair, answer: tuple[int, int]) -> tuple[int, int]:
    """The tokens that hold the answer, as places of the pair; (0, 0) where it was cut off."""
    start, end = answer
    held = [n for n, (a, b) in enumerate(pair.offsets) if a < end and b > start]
    return (pair.first + held[0], pair.first + held[-1]) if held else (0, 0)


def loss(
    net: crossreader.Network,
    some: Sequence[groups.Group],
    tokens: crossreader.Tokens,
    numbers: descent.Numbers = "float32",
) -> Tensor:
    """Summed over the groups."""
    pairs = [tokens.pair(g.question, t) for g in some for t in g.texts]
    with embed.computing("cpu", fast=numbers == "bfloat16"):
        read = net(pairs)
    read = crossreader.Read(*(part.float() for part in (read.relevance, read.starts, read.ends)))
    wanted_start = torch.zeros(len(pairs), dtype=torch.long)
    wanted_end = torch.zeros(len(pairs), dtype=torch.long)
    answers = torch.zeros(len(pairs))
    weight = torch.full((len(pairs),), 0.25)
    total, at = torch.zeros(()), 0
    for g in some:
        if g.right >= 0:
            place = at + g.right
            wanted_start[place], wanted_end[place] = target(pairs[place], g.answer)
            answers[place], weight[place] = 1.0, 1.0
            scores = read.relevance[at : at + len(g.texts)]
            total = total + F.cross_entropy(scores, torch.tensor(g.right))
        at += len(g.texts)
    spans = F.cross_entropy(read.starts, wanted_start, reduction="none")
    spans = spans + F.cross_entropy(read.ends, wanted_end, reduction="none")
    whether = F.binary_cross_entropy_with_logits(read.relevance, answers, reduction="none")
    return total + (weight * (0.5 * spans + whether)).sum()


def train(
    net: crossreader.Network,
    made: Iterator[groups.Group],
    tokens: crossreader.Tokens,
    plan: Plan,
    out: Path,
    stop: Path,
    start: Path | None = None,
) -> int:
    """The steps reached. `start` is an adapter to go on from."""
    learned = start_lora(net, plan.seed)
    if start:
        descent.take(learned, read_adapter(start)[0])
    net.eval()  # no dropout: nothing is seen twice, and attention takes 1.4 times as long with it
    batches = (list(itertools.islice(made, plan.groups_per_step)) for _ in itertools.count())

    def learn(some: list[groups.Group]) -> float:
        some.sort(key=lambda g: max(map(len, g.texts)))
        total = 0.0
        for n in range(0, len(some), TOGETHER):
            part = loss(net, some[n : n + TOGETHER], tokens, plan.numbers) / len(some)
            part.backward()
            total += part.item()
        return total

    return descent.descend(learned, batches, learn, plan, out, stop)


# --- measuring and the adapter file -----------------------------------------------


def load(out: Path, model: Path) -> tuple[crossreader.Network, dict[str, Any]]:
    """The network as far as the run in `out` has come, and its saved state."""
    net = crossreader.Network.load(model)
    kept = descent.state(out)
    net.merge(kept["learned"], ALPHA / RANK)
    return net.eval(), kept


def measure(
    net: crossreader.Network,
    tokens: crossreader.Tokens,
    paragraphs: Sequence[examples.Paragraph],
    questions: int,
    seed: int = 5,
    shown: int = 8,
) -> dict[str, float]:
    """Each question with the paragraphs most alike in words, its own among them.

    `refused`: of the questions whose own paragraph is left out, those that a threshold stops
    which also stops a tenth of the others.
    """
    alike = examples.Alike([p.text for p in paragraphs])
    dice = random.Random(seed)
    asked = dice.sample([(n, a) for n, p in enumerate(paragraphs) for a in p.asked], questions)
    first = right = exact = 0
    f1, best, without = 0.0, list[float](), list[float]()
    for own, one in asked:
        near = alike.nearest(one.text, shown)
        first += near[0] == own
        if own not in near:
            near[-1] = own
        texts = [groups.titled(paragraphs[n].article, paragraphs[n].text[:450]) for n in near]
        pairs = [tokens.pair(one.text, text) for text in texts]
        with torch.no_grad():
            read = net(pairs)
        top = int(read.relevance.argmax())
        right += near[top] == own
        found = crossreader.spans(read, top, pairs[top], 1)[0]
        said = texts[top][found.start : found.end]
        exact += any(evaluate.bare(said) == evaluate.bare(a) for a in one.answers)
        f1 += max(evaluate.character_f1(said, a) for a in one.answers)
        scores = read.relevance.tolist()
        best.append(max(scores))
        without.append(max(s for n, s in zip(near, scores, strict=True) if n != own))
    threshold = sorted(best)[questions // 10]
    return {
        "words_recall@1": first / questions,
        "recall@1": right / questions,
        "em": exact / questions,
        "f1": f1 / questions,
        "refused": sum(s < threshold for s in without) / questions,
    }


def at_work(
    net: crossreader.Network,
    tokens: crossreader.Tokens,
    papers: Sequence[written.Paper],
    questions: int,
    seed: int = 5,
) -> dict[str, float]:
    """Questions of colleagues, each among all papers of a company that was not learned from.

    `said`: the surest words are the answer, or a part of it, or it of them. `refused`: of the
    questions that no paper answers, those stopped by a threshold that stops a tenth of the right ones.
    """
    asked = [
        (cut, n, paper.text, text, answer)
        for some in written.companies(papers, measured=True)
        for cut in [written.pieces(some, 400)]
        for n, paper in enumerate(some)
        for text, answer in (*paper.asked, *((s, "") for s in paper.silent))
    ]
    first = f1 = right = total = 0.0
    sure, without = list[float](), list[float]()
    for cut, n, paper_text, text, answer in random.Random(seed).sample(asked, questions):
        pairs = [tokens.pair(text, piece.shown) for piece in cut]
        found = []
        for start in range(0, len(pairs), 8):
            some = pairs[start : start + 8]
            with torch.no_grad():
                read = net(some)
            for at, pair in enumerate(some):
                words = crossreader.spans(read, at, pair, 1)[0]
                relevance = float(read.relevance[at])
                found.append((relevance + words.score, relevance, start + at, words))
        best, _, piece, words = max(found, key=lambda f: f[0])
        if not answer:
            without.append(best)
            continue
        total += 1
        where = paper_text.index(answer)
        own = cut[max(found, key=lambda f: f[1])[2]]
        first += own.paper == n and own.start <= where < own.end
        said = cut[piece].shown[words.start : words.end]
        f1 += evaluate.character_f1(said, answer)
        one, other = sorted((evaluate.bare(said), evaluate.bare(answer)), key=len)
        if one and one in other:
            right += 1
            sure.append(best)
    least = sorted(sure)[len(sure) // 10] if sure else 0.0
    return {
        "work_first": first / total,
        "work_said": right / total,
        "work_f1": f1 / total,
        "work_refused": sum(s < least for s in without) / max(len(without), 1),
    }


def export(out: Path, adapter: Path) -> None:
    """The adapter and, beside it, the facts of its run."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    lora.save(adapter, descent.state(out)["learned"], ALPHA / RANK)
    descent.card(out, adapter, RANK, ALPHA)


# --- the command ------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    given = descent.parser("Kura's reader", Plan(), questions=200).parse_args(arguments)
    if given.verb == "export":
        export(given.out, given.adapter)
        return
    torch.set_num_threads(given.threads)
    tokens = crossreader.Tokens.load(given.model)
    if given.verb == "measure":
        net, kept = load(given.out, given.model)
        read = examples.read(given.data.glob("jaquad_dev_*.json"))
        figures = measure(net, tokens, read, given.questions)
        figures |= at_work(net, tokens, written.read(), given.questions)
        print(json.dumps({"step": kept["step"]} | {k: round(v, 3) for k, v in figures.items()}))
        return
    numbers: descent.Numbers = "bfloat16" if embed.has_bfloat16("cpu") else "float32"
    plan = Plan(seed=given.seed, steps=given.steps, rate=given.rate, numbers=numbers)
    dice = random.Random(plan.seed)
    asked = written.made(written.read(), random.Random(plan.seed), plan.passages)
    maker = groups.Maker(descent.prepare(given, plan), plan.passages, plan.unanswered, asked)
    made = maker.groups(dice)
    net = crossreader.Network.load(given.model)
    train(net, made, tokens, plan, given.out, given.stop, given.start)


if __name__ == "__main__":
    main()
