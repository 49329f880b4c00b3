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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from appliance.inference import embed
from appliance.training import run

Batch = TypeVar("Batch")
Planned = TypeVar("Planned", bound="Plan")
Numbers = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Shares are of `steps`, or of `rate`. With `minutes` the rate follows the clock instead."""

    seed: int = 1
    steps: int = 0
    minutes: float = 0.0
    rate: float = 4e-4
    warmup: float = 0.03
    flat: float = 0.65
    last_rate: float = 0.02
    decay: float = 0.01
    clip: float = 1.0
    groups_per_step: int = 12
    save_every_s: float = 240.0
    numbers: Numbers = "float32"  # in which matrices are multiplied; all else is float32
    device: str = "cpu"
    dropout: bool = False  # as the embedder's own training had it; for more rounds than one
    compiled: bool = False  # the BERT, on a CPU: needs a C++ compiler and half a minute


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

    def progress() -> float:
        if plan.minutes:
            return (spent + time.monotonic() - began) / (plan.minutes * 60)
        return step / plan.steps

    with (out / "loss.jsonl").open("a", encoding="utf-8") as log:
        while (share := progress()) < 1 and not stop.exists():
            rate = pace.at(share)
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
            if now - saved_at > plan.save_every_s:
                saved_at = now
                _save(out, learned, descent, step, spent + now - began)
        _save(out, learned, descent, step, spent + time.monotonic() - began)
    return step


def state(out: Path) -> dict[str, Any]:
    """As far as the run in `out` has come: `learned`, `step`, `spent_s`."""
    kept: dict[str, Any] = torch.load(out / "state.pt", map_location="cpu", weights_only=True)
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
    for verb in (check, write):
        verb.add_argument("--out", type=Path, required=True)
    check.add_argument("--threads", type=int, default=2)
    arguments(learn, plan)
    learn.add_argument("--start", type=Path, help="an adapter to go on from")
    check.add_argument("--data", type=Path, required=True, help="folder of jaquad_*.json")
    check.add_argument("--model", type=Path, required=True, help="folder of the embedder")
    check.add_argument("--questions", type=int, default=questions)
    write.add_argument("--adapter", type=Path, required=True)
    write.add_argument(
        "--mean-with", type=Path, help="an adapter of the same shape, often its start"
    )
    write.add_argument("--share", type=float, default=0.5, help="of this run in the mean")
    return made


def arguments(verb: argparse.ArgumentParser, plan: Plan) -> None:
    """What a run is told."""
    verb.add_argument("--packed", type=Path, required=True, help="folder of what is learned from")
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--threads", type=int, default=2)
    verb.add_argument("--stop", type=Path, default=Path(tempfile.gettempdir(), "stop-training"))
    length = verb.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, default=0)
    length.add_argument("--minutes", type=float, default=0.0)
    verb.add_argument("--rate", type=float, default=plan.rate)
    verb.add_argument("--seed", type=int, default=plan.seed)
    verb.add_argument("--groups-per-step", type=int, default=plan.groups_per_step)
    verb.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    verb.add_argument("--dropout", action="store_true")
    verb.add_argument("--compiled", action="store_true")


def planned(given: argparse.Namespace, plan: Planned) -> Planned:
    """What the command asks for."""
    torch.set_num_threads(given.threads)
    return replace(
        plan,
        seed=given.seed,
        steps=given.steps,
        minutes=given.minutes,
        rate=given.rate,
        groups_per_step=given.groups_per_step,
        device=given.device,
        dropout=given.dropout,
        compiled=given.compiled,
        numbers="bfloat16" if embed.has_bfloat16(given.device) else "float32",
    )


def begin(given: argparse.Namespace, plan: Plan, learned_from: Mapping[str, Any]) -> None:
    """Makes the run's folder and writes down its facts."""
    given.out.mkdir(parents=True, exist_ok=True)
    start = getattr(given, "start", None)
    facts = {
        "hardware": run.hardware(given.threads, plan.device),
        "plan": asdict(plan),
        "started_from": {"file": start.name, "sha256": run.sha256(start)} if start else None,
        **learned_from,
    }
    (given.out / "plan.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def mean(
    learned: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Of two that began alike: `share` of what was learned, the rest of the other.

    What a short run learns anew it pays for with what it knew; between both ends much of the one is kept and little of the
    other lost (Wortsman et al. 2022, arXiv 2109.01903). Raises KeyError, RuntimeError for another shape.
    """
    return {
        name: torch.lerp(other[name].float(), part.float(), share) for name, part in learned.items()
    }


def card(
    out: Path, adapter: Path, rank: int, alpha: float, more: Mapping[str, Any] | None = None
) -> None:
    """The facts of a run, written beside its adapter."""
    kept = state(out)
    lines = (out / "loss.jsonl").read_text("utf-8").splitlines()
    log = [line for line in map(json.loads, lines) if line["step"] <= kept["step"]]
    facts = {
        "file": adapter.name,
        "sha256": run.sha256(adapter),
        "size_bytes": adapter.stat().st_size,
        **(more or {}),
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
