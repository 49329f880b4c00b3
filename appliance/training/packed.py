"""What reader and retrieval adapter learn from, made beforehand: groups as tokens, and the network.

    python -m appliance.training.packed --data DIR --measured FILE --model DIR --out DIR --groups N

The folder holds all that a training needs beside torch and transformers, in little space, so that
it can be carried to a machine with a GPU: `groups.npz` with each text once; `model`, the embedder
in half precision, whose table has the tokens that occur alone; `facts.json`. The seed decides it all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appliance.inference import crossreader
from appliance.training import examples, groups, run, written
from appliance.types import Role

PASSAGES = 4  # of a group
UNANSWERED = 0.12  # groups without the passage that answers
SPECIAL = (0, 1, 2, 3)  # of the tokenizer: kept, and kept in their places
BEGIN, END = 0, 2
TABLE = "embeddings.word_embeddings.weight"
AHEAD = 64  # batches that are sorted by length together: little is padded


@dataclass(frozen=True, slots=True)
class Group:
    """`groups.Group` as tokens, none of them special. `answer`: its first and last token."""

    question: list[int]
    texts: tuple[list[int], ...]
    right: int
    answer: tuple[int, int] | None  # None: cut off, or nothing answers
    office: bool

    def pairs(self) -> list[crossreader.Pair]:
        """As `crossreader.Tokens.pair` makes them, without the places in the text."""
        asked = [BEGIN, *self.question][: crossreader.QUESTION_TOKENS]
        room = crossreader.READS - len(asked) - 2
        return [
            crossreader.Pair([*asked, END, *text[:room], END], len(asked) + 1, [(0, 0)] * len(kept))
            for text in self.texts
            for kept in [text[:room]]
        ]

    def __len__(self) -> int:
        return len(self.question) + max(map(len, self.texts))


class Packed:
    """The groups of a folder. `before` holds the tokens that a role sets before a text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / "facts.json").read_text("utf-8"))
        self.before: dict[Role, list[int]] = self.facts["before"]
        with np.load(folder / "groups.npz") as file:
            self._tokens, self._ends = file["tokens"], file["ends"]
            self._texts, self._groups = file["texts"], file["groups"]

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, n: int) -> Group:
        question, first, count, right, start, end, office = self._groups[n].tolist()
        texts = tuple(self._text(int(t)) for t in self._texts[first : first + count])
        answer = (start, end) if start >= 0 else None
        return Group(self._text(question), texts, right, answer, bool(office))

    def batches(self, seed: int, size: int, *, answered: bool = False) -> Iterator[list[Group]]:
        """Without end: no group again before all came; those of a batch are about as long.

        What does not fill the last batch of a round is left out of it.
        """
        dice = random.Random(seed)
        usable = [n for n, g in enumerate(self._groups) if g[3] >= 0 or not answered]
        while True:
            order = dice.sample(usable, len(usable))
            for at in range(0, len(order), size * AHEAD):
                some = sorted((self[n] for n in order[at : at + size * AHEAD]), key=len)
                cut = [some[n : n + size] for n in range(0, len(some), size)]
                dice.shuffle(cut)
                yield from (part for part in cut if len(part) == size)

    def _text(self, n: int) -> list[int]:
        tokens: list[int] = self._tokens[self._ends[n] : self._ends[n + 1]].tolist()
        return tokens


def pack(some: Iterable[groups.Group], model: Path, out: Path, facts: dict[str, Any]) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    known: dict[str, int] = {}
    rows: list[list[int]] = []
    offsets: list[list[tuple[int, int]]] = []

    def number(text: str) -> int:
        if text not in known:
            read = tokenizer.encode(text)
            known[text] = len(rows)
            rows.append(read.ids[1:-1])
            offsets.append(read.offsets[1:-1])
        return known[text]

    texts: list[int] = []
    lines: list[tuple[int, ...]] = []
    for g in some:
        numbers = [number(t) for t in g.texts]
        span = _held(offsets[numbers[g.right]], g.answer) if g.right >= 0 else (-1, -1)
        lines.append((number(g.question), len(texts), len(numbers), g.right, *span, g.office))
        texts += numbers
    before = {role: tokenizer.encode(f"{role}:").ids[1:-1] for role in ("query", "passage")}
    flat = np.concatenate([np.asarray(r, np.int64) for r in (*before.values(), *rows)])
    words = np.unique(np.concatenate([flat, SPECIAL]))
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / "groups.npz",
        tokens=np.searchsorted(
            words, np.concatenate([np.asarray(r, np.int64) for r in rows])
        ).astype(np.uint16),
        ends=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        texts=np.asarray(texts, np.int32),
        groups=np.asarray(lines, np.int32),
    )
    _cut(model, words, out / "model")
    facts = facts | {
        "groups": len(lines),
        "texts": len(rows),
        "groups_sha256": run.sha256(out / "groups.npz"),
        "before": {r: np.searchsorted(words, ids).tolist() for r, ids in before.items()},
    }
    (out / "facts.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _held(offsets: Sequence[tuple[int, int]], answer: tuple[int, int]) -> tuple[int, int]:
    """The first and last token that hold a part of the answer."""
    start, end = answer
    held = [n for n, (a, b) in enumerate(offsets) if a < end and b > start]
    return (held[0], held[-1]) if held else (-1, -1)


def _cut(model: Path, words: np.ndarray, out: Path) -> None:
    """The embedder with these rows of its table alone, which are numbered anew."""
    from safetensors.torch import load_file, save_file

    if len(words) > np.iinfo(np.uint16).max or tuple(words[: len(SPECIAL)]) != SPECIAL:
        raise ValueError(f"{len(words)} tokens do not fit into 16 bits")
    out.mkdir(exist_ok=True)
    parts = load_file(model / "model.safetensors")
    parts[TABLE] = parts[TABLE][torch.from_numpy(words)]
    halves = {k: p.half().contiguous() for k, p in parts.items() if p.is_floating_point()}
    save_file(halves, out / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text("utf-8")) | {"vocab_size": len(words)}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What is learned from, as tokens")
    parser.add_argument("--data", type=Path, required=True, help="folder of jaquad_*.json")
    parser.add_argument("--measured", type=Path, required=True, help="JSQuAD: never learned from")
    parser.add_argument("--model", type=Path, required=True, help="folder of the embedder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--groups", type=int, required=True)
    parser.add_argument(
        "--passages", type=int, default=PASSAGES, help="of a group; fewer cost less"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--long", type=float, default=0.0, help="share of long ones among the written questions"
    )
    parser.add_argument("--written", type=float, default=groups.WRITTEN_SHARE, help="their share")
    given = parser.parse_args(arguments)
    read = examples.read(given.data.glob("jaquad_train_*.json"))
    kept = examples.without(read, examples.read([given.measured]))
    facts = {
        "base": {
            "file": given.model.name,
            "sha256": run.sha256(given.model / "model.safetensors"),
        },
        "seed": given.seed,
        "articles_read": len({p.article for p in read}),
        "articles_kept": len({p.article for p in kept}),
        "written": {f.name: run.sha256(f) for f in sorted(written.HERE.glob("*.jsonl"))},
    }
    dice = random.Random(given.seed)
    asked = written.made(written.read(), dice, given.passages, given.long)
    maker = groups.Maker(kept, given.passages, UNANSWERED, asked, given.written)
    made = maker.groups(random.Random(given.seed))
    pack(itertools.islice(made, given.groups), given.model, given.out, facts)


if __name__ == "__main__":
    main()
