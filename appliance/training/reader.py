"""Trains Kura's reader: a LoRA on the embedder's own BERT that reranks and points.

    python -m appliance.training.reader train --packed DIR --out DIR --steps N
    python -m appliance.training.reader measure --out DIR --data DIR --model DIR
    python -m appliance.training.reader export --out DIR --adapter FILE [--mean-with FILE --share .5]

A group (`training/packed.py`) is one question with several passages. Learned are which passage it
is (softmax over the group), whether each answers at all, and the words of the answer; "nowhere" for
the others. The seed decides the order and the start. Training stops when `--stop` appears, state
saved, and goes on from there. Needed: torch, transformers, numpy.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.inference import crossreader, embed
from appliance.inference.lora import read as read_adapter
from appliance.training import descent, evaluate, examples, groups, lora, packed, written

RANK, ALPHA = 64, 64.0
TOGETHER = {"cpu": 3, "cuda": 128}  # groups in one forward pass


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


def loss(
    net: crossreader.Network, some: Sequence[packed.Group], numbers: descent.Numbers = "float32"
) -> Tensor:
    """Summed over the groups."""
    pairs = [pair for g in some for pair in g.pairs()]
    device = net.score.weight.device
    with embed.computing(device.type, fast=numbers == "bfloat16"):
        read = net(pairs)
    read = crossreader.Read(*(part.float() for part in (read.relevance, read.starts, read.ends)))
    wanted = torch.zeros((2, len(pairs)), dtype=torch.long)
    answers = torch.zeros(len(pairs))
    weight = torch.full((len(pairs),), 0.25)
    group = torch.empty(len(pairs), dtype=torch.long)
    places, at = list[int](), 0
    for n, g in enumerate(some):
        group[at : at + len(g.texts)] = n
        if g.right >= 0:
            place = at + g.right
            places.append(place)
            answers[place], weight[place] = 1.0, 1.0
            if g.answer and g.answer[1] < len(pairs[place].offsets):
                wanted[:, place] = pairs[place].first + torch.tensor(g.answer)
        at += len(g.texts)
    right = torch.tensor(places, dtype=torch.long)
    own = group == group[right].unsqueeze(1)  # the passages of each answered group
    right, own, wanted, answers, weight = (
        part.to(device) for part in (right, own, wanted, answers, weight)
    )
    table = read.relevance.expand(len(places), -1).masked_fill(~own, -torch.inf)
    which = F.cross_entropy(table, right, reduction="sum")
    spans = F.cross_entropy(read.starts, wanted[0], reduction="none")
    spans = spans + F.cross_entropy(read.ends, wanted[1], reduction="none")
    whether = F.binary_cross_entropy_with_logits(read.relevance, answers, reduction="none")
    return which + (weight * (0.5 * spans + whether)).sum()


def train(
    net: crossreader.Network,
    found: packed.Packed,
    plan: descent.Plan,
    out: Path,
    stop: Path,
    start: Path | None = None,
) -> int:
    """The steps reached. `start` is an adapter to go on from."""
    learned = start_lora(net, plan.seed)
    if start:
        descent.take(learned, read_adapter(start)[0])
    lora.ready(net, plan)
    together = TOGETHER[plan.device]

    def learn(some: list[packed.Group]) -> float:
        total = torch.zeros((), device=plan.device)  # read at the end: a GPU is not waited for
        for n in range(0, len(some), together):
            part = loss(net, some[n : n + together], plan.numbers) / len(some)
            part.backward()
            total += part.detach()
        return float(total)

    batches = found.batches(plan.seed, plan.groups_per_step)
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
        (cut, n, one)
        for some in written.companies(papers, measured=True)
        for cut in [written.pieces(some, 400)]
        for n, paper in enumerate(some)
        for one in (*paper.asked, *(written.Asked(s, "", -1) for s in paper.silent))
    ]
    first = f1 = right = total = 0.0
    sure, without = list[float](), list[float]()
    for cut, n, one in random.Random(seed).sample(asked, questions):
        pairs = [tokens.pair(one.text, piece.shown) for piece in cut]
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
        if not one.answer:
            without.append(best)
            continue
        total += 1
        own = cut[max(found, key=lambda f: f[1])[2]]
        first += own.paper == n and own.start <= one.start < own.end
        said = cut[piece].shown[words.start : words.end]
        f1 += evaluate.character_f1(said, one.answer)
        short, long = sorted((evaluate.bare(said), evaluate.bare(one.answer)), key=len)
        if short and short in long:
            right += 1
            sure.append(best)
    least = sorted(sure)[len(sure) // 10] if sure else 0.0
    return {
        "work_first": first / total,
        "work_said": right / total,
        "work_f1": f1 / total,
        "work_refused": sum(s < least for s in without) / max(len(without), 1),
    }


# --- the command ------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    plan = descent.Plan()
    given = descent.parser("Kura's reader", plan, questions=200).parse_args(arguments)
    if given.verb == "export":
        lora.export(given.out, given.adapter, RANK, ALPHA, given.mean_with, given.share)
    elif given.verb == "measure":
        torch.set_num_threads(given.threads)
        tokens = crossreader.Tokens.load(given.model)
        net, kept = load(given.out, given.model)
        read = examples.read(given.data.glob("jaquad_dev_*.json"))
        figures = measure(net, tokens, read, given.questions)
        figures |= at_work(net, tokens, written.read(), given.questions)
        print(json.dumps({"step": kept["step"]} | {k: round(v, 3) for k, v in figures.items()}))
    else:
        plan = descent.planned(given, plan)
        found = packed.Packed(given.packed)
        descent.begin(given, plan, found.facts)
        net = crossreader.Network.load(found.folder / "model")
        train(net, found, plan, given.out, given.stop, given.start)


if __name__ == "__main__":
    main()
