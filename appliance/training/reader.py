"""Trains Kura's reader: a LoRA on the embedder's own BERT that reranks and points.

    python -m appliance.training.reader train --data DIR --measured FILE --out DIR --steps N
    python -m appliance.training.reader measure --out DIR --data DIR
    python -m appliance.training.reader export --out DIR --adapter FILE

A group is one question with several passages of about one length: the one that answers and others
that do not (of the same article, alike in words, alike to the embedder, by chance). Learned are
which passage it is (softmax over the group), whether each answers at all, and the words of the
answer; "nowhere" for the others. The seed decides the data and the start. Training stops when
`--stop` appears, state saved, and goes on from there. Needed: torch, transformers, numpy.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.inference import crossreader
from appliance.training import casual, company, evaluate, examples, run

RANK, ALPHA = 64, 64.0
COMPANY_SHARE = 0.3
AMONG = 0.6  # of the papers that stand among parts of others, as chunks of a long document do
WHOLE_CHUNK = 260  # characters; longer ones cost too much of the training
CASUAL = 0.35  # of the questions that are put as people at work put them
SIZES = (100, 140, 180, 220, 260, 320, 400)  # characters of a group's passages
SIZE_WEIGHTS = (12, 20, 22, 18, 12, 9, 7)
_POLITE = re.compile(r"(?:は?(?:何|なん)?(?:でしょう|です)か|ですか)?[？?。]*$")


@dataclass(frozen=True, slots=True)
class Group:
    """`right` is the place of the passage that answers; -1 where none does."""

    question: str
    texts: tuple[str, ...]
    right: int
    answer: tuple[int, int] = (0, 0)  # [start, end) of that passage's text


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int = 1
    steps: int = 0
    groups_per_step: int = 12
    passages: int = 2  # of a group: words are learned from the one that answers alone
    unanswered: float = 0.12  # groups without the passage that answers
    rate: float = 4e-4
    warmup: float = 0.03
    flat: float = 0.65
    last_rate: float = 0.02
    decay: float = 0.01
    clip: float = 1.0
    save_every_s: float = 240.0


# --- data -------------------------------------------------------------------------


class Maker:
    """Groups from a data set of paragraphs."""

    def __init__(self, paragraphs: Sequence[examples.Paragraph], plan: Plan) -> None:
        self.paragraphs = paragraphs
        self.plan = plan
        self._of: dict[str, list[examples.Paragraph]] = {}
        for p in paragraphs:
            self._of.setdefault(p.article, []).append(p)
        self._alike = examples.Alike([p.text for p in paragraphs])
        self._all = [(p, a) for p in paragraphs for a in p.asked if examples.askable(a, p)]

    def groups(self, dice: random.Random) -> Iterator[Group]:
        """Without end; every question once before any comes again."""
        while True:
            order = dice.sample(self._all, len(self._all))
            for p, asked in order:
                while dice.random() < COMPANY_SHARE:
                    yield from (_loose(g, dice) for g in _office(dice))
                yield _loose(self.group(p, asked, dice), dice)

    def group(self, p: examples.Paragraph, asked: examples.Asked, dice: random.Random) -> Group:
        size = dice.choices(SIZES, SIZE_WEIGHTS)[0]
        answers = [examples.plain(a) for a in asked.answers]
        found = examples.window(p, asked, dice, size)
        others: list[str] = []
        for kind in dice.sample((0, 1, 1, 2), self.plan.passages - 1):
            other = self._other(p, asked, size, answers, kind, dice)
            if other and other not in others:
                others.append(other)
        question = asked.text if dice.random() < 0.7 else _POLITE.sub("", asked.text)
        if others and dice.random() < self.plan.unanswered:
            return Group(question, tuple(others), -1)
        text, start = titled(p.article, found.text), p.text.index(found.text, found.start)
        start = asked.start - start + len(text) - len(found.text)
        right = dice.randrange(len(others) + 1)
        others.insert(right, text)
        span = (start, start + len(asked.answers[0]))
        assert text[span[0] : span[1]] == asked.answers[0]
        return Group(question, tuple(others), right, span)

    def _other(
        self,
        p: examples.Paragraph,
        asked: examples.Asked,
        size: int,
        answers: Sequence[str],
        kind: int,
        dice: random.Random,
    ) -> str:
        """A part of another paragraph, or of another place of this one, without the answer."""
        if kind == 0:
            pool = self._of[p.article]
        elif kind == 1:
            pool = [self.paragraphs[n] for n in self._alike.nearest(asked.text, 10)]
        else:
            pool = list(self.paragraphs) if dice.random() < 0.3 else self._of[p.article]
        for _ in range(8):
            other = dice.choice(pool)
            usable = [a for a in other.asked if a is not asked]
            if usable and dice.random() < 0.7:
                part = examples.window(other, dice.choice(usable), dice, size)
            else:
                part = examples.window(other, None, dice, size)
            plain = examples.plain(part.text)
            if len(part.text) >= 20 and not any(a in plain for a in answers):
                return titled(other.article, part.text)
        return ""


def titled(title: str, text: str) -> str:
    return f"{title}\n{text}"


def _loose(group: Group, dice: random.Random) -> Group:
    if dice.random() >= CASUAL:
        return group
    return replace(group, question=casual.casual(group.question, dice))


def _office(dice: random.Random) -> Iterator[Group]:
    case = company.case(dice)
    asked = {q.text for q in case.questions}
    bodies = [_among(p.text, asked, dice) for p in case.passages]
    texts = [
        titled(f"{p.title} {p.label}".strip(), body)
        for p, body in zip(case.passages, bodies, strict=True)
    ]
    for q in case.questions[:2]:
        if not q.cited:
            yield Group(q.text, tuple(texts), -1)
            continue
        right = q.cited - 1
        body = bodies[right]
        if body.count(q.answer) != 1:
            continue
        start = len(texts[right]) - len(body) + body.index(q.answer)
        yield Group(q.text, tuple(texts), right, (start, start + len(q.answer)))


def _among(text: str, asked: set[str], dice: random.Random) -> str:
    """A paper as a chunk may show it: with the end of what stands before, and what comes after.

    None of that answers what is `asked`.
    """
    while len(text) < WHOLE_CHUNK and dice.random() < AMONG:
        other = dice.choice(company.KINDS)(dice)
        if any(asked & set(fact.asked) for fact in other.facts):
            continue
        cut = dice.randrange(len(other.text))
        before = dice.random() < 0.5
        text = f"{other.text[cut:]}\n{text}" if before else f"{text}\n{other.text[: cut + 1]}"
    return text


# --- training ---------------------------------------------------------------------


class Adapted(nn.Module):  # type: ignore[misc]
    """A frozen linear layer and its low-rank change."""

    def __init__(self, base: nn.Linear, dice: torch.Generator) -> None:
        super().__init__()
        self.base = base
        out, into = base.weight.shape
        self.a = nn.Parameter(torch.randn(RANK, into, generator=dice) / math.sqrt(into))
        self.b = nn.Parameter(torch.zeros(out, RANK))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + (ALPHA / RANK) * F.linear(F.linear(x, self.a), self.b)


def start_lora(net: crossreader.Network, seed: int) -> dict[str, nn.Parameter]:
    """What is learned, by its name in the adapter. All else is frozen."""
    torch.manual_seed(seed)
    dice = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.requires_grad_(False)
    learned = dict(net.heads())
    for name, head in learned.items():
        head.requires_grad_(True)
        if name.endswith("weight"):
            nn.init.normal_(head, std=0.02, generator=dice)
        else:
            nn.init.zeros_(head)
    for n, layer in enumerate(net.bert.encoder.layer):
        for name in crossreader.LINEAR:
            parent, _, leaf = name.rpartition(".")
            adapted = Adapted(layer.get_submodule(name), dice)
            setattr(layer.get_submodule(parent), leaf, adapted)
            learned[f"{n}.{name}.lora_a"], learned[f"{n}.{name}.lora_b"] = adapted.a, adapted.b
    return learned


def go_on_from(learned: Mapping[str, nn.Parameter], adapter: Path) -> None:
    """Start where another adapter of the same shape ended."""
    from safetensors.torch import load_file

    kept = load_file(adapter)
    with torch.no_grad():
        for name, part in learned.items():
            part.copy_(kept[name])


def target(pair: crossreader.Pair, answer: tuple[int, int]) -> tuple[int, int]:
    """The tokens that hold the answer, as places of the pair; (0, 0) where it was cut off."""
    start, end = answer
    held = [n for n, (a, b) in enumerate(pair.offsets) if a < end and b > start]
    return (pair.first + held[0], pair.first + held[-1]) if held else (0, 0)


def loss(net: crossreader.Network, groups: Sequence[Group], tokens: crossreader.Tokens) -> Tensor:
    """Summed over the groups."""
    pairs = [tokens.pair(g.question, t) for g in groups for t in g.texts]
    read = net(pairs)
    wanted_start = torch.zeros(len(pairs), dtype=torch.long)
    wanted_end = torch.zeros(len(pairs), dtype=torch.long)
    answers = torch.zeros(len(pairs))
    weight = torch.full((len(pairs),), 0.25)
    total, at = torch.zeros(()), 0
    for g in groups:
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
    groups: Iterator[Group],
    tokens: crossreader.Tokens,
    plan: Plan,
    out: Path,
    stop: Path,
    start: Path | None = None,
) -> int:
    """The steps reached. `start` is an adapter to go on from."""
    learned = start_lora(net, plan.seed)
    if start:
        go_on_from(learned, start)
    parts = list(learned.values())
    descent = torch.optim.AdamW(parts, lr=plan.rate, weight_decay=plan.decay)
    pace = run.Pace(plan.rate, plan.warmup, plan.last_rate, plan.flat)
    saved, step, spent = out / "state.pt", 0, 0.0
    if saved.exists():
        kept: dict[str, Any] = torch.load(saved, weights_only=True)
        with torch.no_grad():
            for name, part in learned.items():
                part.copy_(kept["learned"][name])
        descent.load_state_dict(kept["descent"])
        step, spent = kept["step"], kept["spent_s"]
        for _ in range(step * plan.groups_per_step):
            next(groups)
    began = saved_at = time.monotonic()
    net.eval()  # no dropout: nothing is seen twice, and attention takes 1.4 times as long with it
    with (out / "loss.jsonl").open("a", encoding="utf-8") as log:
        while step < plan.steps and not stop.exists():
            rate = pace.at(step / plan.steps)
            for setting in descent.param_groups:
                setting["lr"] = rate
            some = [next(groups) for _ in range(plan.groups_per_step)]
            some.sort(key=lambda g: max(map(len, g.texts)))
            total = 0.0
            for n in range(0, len(some), 3):
                part_loss = loss(net, some[n : n + 3], tokens) / len(some)
                part_loss.backward()
                total += part_loss.item()
            norm = float(nn.utils.clip_grad_norm_(parts, plan.clip))
            descent.step()
            descent.zero_grad(set_to_none=True)
            step += 1
            now = time.monotonic()
            line = {"step": step, "loss": round(total, 4), "rate": rate, "norm": round(norm, 3)}
            log.write(json.dumps(line | {"spent_s": round(spent + now - began, 1)}) + "\n")
            log.flush()
            if now - saved_at > plan.save_every_s or step == plan.steps or stop.exists():
                saved_at = now
                fresh = saved.with_suffix(".new")
                torch.save(
                    {
                        "learned": {k: v.detach() for k, v in learned.items()},
                        "descent": descent.state_dict(),
                        "step": step,
                        "spent_s": spent + now - began,
                    },
                    fresh,
                )
                fresh.replace(saved)
    return step


# --- measuring and the adapter file -----------------------------------------------


def load(out: Path, model: Path) -> tuple[crossreader.Network, dict[str, Any]]:
    """The network as far as the run in `out` has come, and its saved state."""
    net = crossreader.Network.load(model)
    kept: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
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
        texts = [titled(paragraphs[n].article, paragraphs[n].text[:450]) for n in near]
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


def export(out: Path, adapter: Path) -> None:
    """The adapter and, beside it, the facts of its run."""
    from safetensors.torch import save_file

    kept: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    adapter.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: part.half().contiguous() for name, part in kept["learned"].items()},
        adapter,
        {"scale": str(ALPHA / RANK)},
    )
    log = [json.loads(line) for line in (out / "loss.jsonl").read_text("utf-8").splitlines()]
    log = [line for line in log if line["step"] <= kept["step"]]
    card = {
        "file": adapter.name,
        "sha256": run.sha256(adapter),
        "size_bytes": adapter.stat().st_size,
        "rank": RANK,
        "alpha": ALPHA,
        **json.loads((out / "plan.json").read_text("utf-8")),
        "reached": {"step": kept["step"], "spent_s": kept["spent_s"]},
        "loss": run.curve(log, 25),
    }
    text = json.dumps(card, ensure_ascii=False, indent=1)
    adapter.with_suffix(".json").write_text(text + "\n", "utf-8")


# --- the command ------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Kura's reader")
    verbs = parser.add_subparsers(dest="verb", required=True)
    learn, check, write = (verbs.add_parser(v) for v in ("train", "measure", "export"))
    for verb in (learn, check, write):
        verb.add_argument("--out", type=Path, required=True)
    for verb in (learn, check):
        verb.add_argument("--data", type=Path, required=True, help="folder of jaquad_*.json")
        verb.add_argument("--model", type=Path, required=True, help="folder of the embedder")
        verb.add_argument("--threads", type=int, default=2)
    learn.add_argument("--measured", type=Path, required=True, help="JSQuAD: never learned from")
    learn.add_argument("--stop", type=Path, default=Path(tempfile.gettempdir(), "stop-training"))
    learn.add_argument("--steps", type=int, required=True)
    learn.add_argument("--start", type=Path, help="an adapter to go on from")
    learn.add_argument("--rate", type=float, default=Plan().rate)
    learn.add_argument("--seed", type=int, default=Plan().seed)
    check.add_argument("--questions", type=int, default=200)
    write.add_argument("--adapter", type=Path, required=True)
    given = parser.parse_args(arguments)
    if given.verb == "export":
        export(given.out, given.adapter)
        return
    torch.set_num_threads(given.threads)
    tokens = crossreader.Tokens.load(given.model)
    if given.verb == "measure":
        net, kept = load(given.out, given.model)
        read = examples.read(given.data.glob("jaquad_dev_*.json"))
        figures = measure(net, tokens, read, given.questions)
        print(json.dumps({"step": kept["step"]} | {k: round(v, 3) for k, v in figures.items()}))
        return
    plan = Plan(seed=given.seed, steps=given.steps, rate=given.rate)
    given.out.mkdir(parents=True, exist_ok=True)
    read = examples.read(given.data.glob("jaquad_train_*.json"))
    kept_back = examples.without(read, examples.read([given.measured]))
    weights = given.model / "model.safetensors"
    facts = {
        "base": {"file": given.model.name, "sha256": run.sha256(weights)},
        "hardware": run.hardware(given.threads),
        "plan": asdict(plan),
        "started_from": {"file": given.start.name, "sha256": run.sha256(given.start)}
        if given.start
        else None,
        "articles_read": len({p.article for p in read}),
        "articles_kept": len({p.article for p in kept_back}),
    }
    (given.out / "plan.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    made = Maker(kept_back, plan).groups(random.Random(plan.seed))
    train(
        crossreader.Network.load(given.model),
        made,
        tokens,
        plan,
        given.out,
        given.stop,
        given.start,
    )


if __name__ == "__main__":
    main()
