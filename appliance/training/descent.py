"""Gradient descent that may be stopped and goes on where it was, and the command around it.

A run lives in a folder: `plan.json` says what it learns from and on what, `loss.jsonl` has a line
for each step, `state.pt` is where it is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from appliance.training import examples, run, written

Batch = TypeVar("Batch")
Numbers = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Shares are of `steps`, or of `rate`."""

    seed: int = 1
    steps: int = 0
    rate: float = 4e-4
    warmup: float = 0.03
    flat: float = 0.65
    last_rate: float = 0.02
    decay: float = 0.01
    clip: float = 1.0
    save_every_s: float = 240.0
    numbers: Numbers = "float32"  # in which matrices are multiplied; all else is float32


def descend(
    learned: Mapping[str, nn.Parameter],
    batches: Iterator[Batch],
    loss: Callable[[Batch], float],
    plan: Plan,
    out: Path,
    stop: Path,
) -> int:
    """The steps reached. `loss` returns a batch's loss, its gradient added to what is learned.

    Stops when `stop` appears, its state saved in `out`; batches already learned from are passed over.
    """
    parts = list(learned.values())
    descent = torch.optim.AdamW(parts, lr=plan.rate, weight_decay=plan.decay)
    pace = run.Pace(plan.rate, plan.warmup, plan.last_rate, plan.flat)
    step, spent = 0, 0.0
    if (out / "state.pt").exists():
        kept = state(out)
        take(learned, kept["learned"])
        descent.load_state_dict(kept["descent"])
        step, spent = kept["step"], kept["spent_s"]
        for _ in range(step):
            next(batches)
    began = saved_at = time.monotonic()
    with (out / "loss.jsonl").open("a", encoding="utf-8") as log:
        while step < plan.steps and not stop.exists():
            rate = pace.at(step / plan.steps)
            for setting in descent.param_groups:
                setting["lr"] = rate
            total = loss(next(batches))
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
                _save(out, learned, descent, step, spent + now - began)
    return step


def state(out: Path) -> dict[str, Any]:
    """As far as the run in `out` has come: `learned`, `step`, `spent_s`."""
    kept: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return kept


def take(learned: Mapping[str, nn.Parameter], kept: Mapping[str, torch.Tensor]) -> None:
    """Start where another run of the same shape ended."""
    with torch.no_grad():
        for name, part in learned.items():
            part.copy_(kept[name])


def parser(description: str, plan: Plan, questions: int) -> argparse.ArgumentParser:
    """With the verbs train, measure and export."""
    made = argparse.ArgumentParser(description=description)
    verbs = made.add_subparsers(dest="verb", required=True)
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
    learn.add_argument("--rate", type=float, default=plan.rate)
    learn.add_argument("--seed", type=int, default=plan.seed)
    check.add_argument("--questions", type=int, default=questions)
    write.add_argument("--adapter", type=Path, required=True)
    return made


def prepare(given: argparse.Namespace, plan: Plan) -> list[examples.Paragraph]:
    """Makes the run's folder and writes down its facts; returns what may be learned from."""
    given.out.mkdir(parents=True, exist_ok=True)
    read = examples.read(given.data.glob("jaquad_train_*.json"))
    kept = examples.without(read, examples.read([given.measured]))
    facts = {
        "base": {
            "file": given.model.name,
            "sha256": run.sha256(given.model / "model.safetensors"),
        },
        "hardware": run.hardware(given.threads),
        "plan": asdict(plan),
        "started_from": {"file": given.start.name, "sha256": run.sha256(given.start)}
        if given.start
        else None,
        "articles_read": len({p.article for p in read}),
        "articles_kept": len({p.article for p in kept}),
        "written": {f.name: run.sha256(f) for f in sorted(written.HERE.glob("*.jsonl"))},
    }
    (given.out / "plan.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return kept


def card(out: Path, adapter: Path, rank: int, alpha: float) -> None:
    """The facts of a run, written beside its adapter."""
    kept = state(out)
    lines = (out / "loss.jsonl").read_text("utf-8").splitlines()
    log = [line for line in map(json.loads, lines) if line["step"] <= kept["step"]]
    facts = {
        "file": adapter.name,
        "sha256": run.sha256(adapter),
        "size_bytes": adapter.stat().st_size,
        "rank": rank,
        "alpha": alpha,
        **json.loads((out / "plan.json").read_text("utf-8")),
        "reached": {"step": kept["step"], "spent_s": kept["spent_s"]},
        "loss": run.curve(log, 25),
    }
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    adapter.with_suffix(".json").write_text(text + "\n", "utf-8")


def _save(
    out: Path,
    learned: Mapping[str, nn.Parameter],
    descent: torch.optim.Optimizer,
    step: int,
    spent_s: float,
) -> None:
    fresh = out / "state.new"
    kept = {name: part.detach() for name, part in learned.items()}
    facts = {"descent": descent.state_dict(), "step": step, "spent_s": spent_s}
    torch.save({"learned": kept, **facts}, fresh)
    fresh.replace(out / "state.pt")
