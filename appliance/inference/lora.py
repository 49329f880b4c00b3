"""A low-rank change to every linear layer of a BERT (LoRA, Hu et al. 2021, arXiv 2106.09685).

In its file a layer is called `<block>.<linear>`, with `.lora_a` (rank, in) and `.lora_b` (out,
rank); what is added to the weight is scale × b a.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from appliance.errors import SettingsError

LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def layers(bert: Any) -> dict[str, nn.Linear]:
    """The layers that are changed, by their names in the file."""
    return {
        f"{n}.{name}": block.get_submodule(name)
        for n, block in enumerate(bert.encoder.layer)
        for name in LINEAR
    }


def merge(bert: Any, adapter: Mapping[str, Tensor], scale: float) -> None:
    """Take in an adapter's tensors. Raises KeyError, RuntimeError for one of another shape."""
    with torch.no_grad():
        for name, layer in layers(bert).items():
            a, b = adapter[f"{name}.lora_a"].float(), adapter[f"{name}.lora_b"].float()
            layer.weight += (scale * (b @ a)).to(layer.weight.device)


def read(path: Path) -> tuple[dict[str, Tensor], float]:
    """The tensors of an adapter's file, and their scale. Raises SettingsError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, float(file.metadata()["scale"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{path.name} is no adapter of an embedder: {error}") from None
