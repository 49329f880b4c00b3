"""What is learned of a BERT when only a low-rank change of it is: `appliance/inference/lora.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.errors import SettingsError
from appliance.inference import lora
from appliance.training import descent, run


class Adapted(nn.Module):  # type: ignore[misc]
    """A frozen linear layer and its low-rank change, which is nothing at first."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, dice: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        out, into = base.weight.shape
        self.a = nn.Parameter(torch.randn(rank, into, generator=dice) / math.sqrt(into))
        self.b = nn.Parameter(torch.zeros(out, rank))

    def forward(self, x: Tensor) -> Tensor:
        # one product of their sum: a third fewer steps than two beside it, and what is used later
        return F.linear(x, self.base.weight + self.scale * (self.b @ self.a), self.base.bias)


def start(bert: Any, rank: int, scale: float, dice: torch.Generator) -> dict[str, nn.Parameter]:
    """Freezes the network and adds a change to each of its layers: these, by name."""
    for p in bert.parameters():
        p.requires_grad_(False)
    learned: dict[str, nn.Parameter] = {}
    for n, block in enumerate(bert.encoder.layer):
        for name in lora.LINEAR:
            parent, _, leaf = name.rpartition(".")
            adapted = Adapted(block.get_submodule(name), rank, scale, dice)
            setattr(block.get_submodule(parent), leaf, adapted)
            learned[f"{n}.{name}.lora_a"], learned[f"{n}.{name}.lora_b"] = adapted.a, adapted.b
    return learned


def ready(net: Any, plan: descent.Plan) -> None:
    """To be learned from on a device."""
    for part in net.modules():
        if isinstance(part, nn.Dropout) and not plan.dropout:
            part.p = 0.0
    net.to(plan.device).train()
    if plan.compiled:
        # PyTorch's own attention for CPUs takes longer backwards than all matrices together
        net.bert.config._attn_implementation = "eager"
        net.bert = torch.compile(net.bert, dynamic=True)


def export(
    out: Path, adapter: Path, rank: int, alpha: float, other: Path | None = None, share: float = 1.0
) -> None:
    """The adapter of the run in `out`, or its mean with another, and beside it the facts.

    Raises SettingsError for another that is no adapter or of another scale, KeyError or RuntimeError
    for one of another shape.
    """
    learned, facts = descent.state(out)["learned"], dict[str, Any]()
    if other:
        tensors, scale = lora.read(other)
        if scale != alpha / rank:
            raise SettingsError(
                f"{other.name} has a scale of {scale}, the run one of {alpha / rank}"
            )
        learned = descent.mean(learned, tensors, share)
        named = {"file": other.name, "sha256": run.sha256(other)}
        facts["mean_with"] = named | {"share_of_this_run": share}
    adapter.parent.mkdir(parents=True, exist_ok=True)
    save(adapter, learned, alpha / rank)
    descent.card(out, adapter, rank, alpha, facts)


def save(path: Path, tensors: Mapping[str, Tensor], scale: float) -> None:
    from safetensors.torch import save_file

    halves = {name: part.half().contiguous() for name, part in tensors.items()}
    save_file(halves, path, {"scale": str(scale)})
