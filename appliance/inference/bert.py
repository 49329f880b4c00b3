"""BERT on a processor that multiplies in bfloat16: a short question in half the time.

What transformers' BertModel computes under autocast, and no further from float32. But its
matrices are laid out once as oneDNN wants them, not at each pass; query, key and value are one
product; and gelu is taken of the sums before they are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ONEDNN = torch.ops.mkldnn  # what torch's own compiler calls


@dataclass(frozen=True, slots=True)
class Hidden:
    last_hidden_state: Tensor  # float32


class _Product:
    """Of bfloat16, summed in float32."""

    def __init__(self, *parts: Any, gelu: bool = False) -> None:
        weight = torch.cat([p.weight for p in parts]).detach().to(torch.bfloat16)
        self._weight = _ONEDNN._reorder_linear_weight(weight.contiguous(), None)
        self._bias = torch.cat([p.bias for p in parts]).detach().to(torch.bfloat16)
        self._then, self._how = ("gelu", "none") if gelu else ("none", "")

    def __call__(self, rows: Tensor) -> Tensor:
        rows = rows.to(torch.bfloat16)
        product: Tensor = _ONEDNN._linear_pointwise(
            rows, self._weight, self._bias, self._then, [], self._how
        )
        return product


class _Layer:
    def __init__(self, layer: Any, heads: int) -> None:
        own = layer.attention.self
        self._heads = heads
        self._asked = _Product(own.query, own.key, own.value)
        self._mixed = _Product(layer.attention.output.dense)
        self._wide = _Product(layer.intermediate.dense, gelu=True)
        self._narrow = _Product(layer.output.dense)
        self._first, self._second = layer.attention.output.LayerNorm, layer.output.LayerNorm

    def __call__(self, rows: Tensor, seen: Tensor | None) -> Tensor:
        n, length, width = rows.shape
        asked = self._asked(rows).view(n, length, 3, self._heads, width // self._heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        mixed = mixed.transpose(1, 2).reshape(n, length, width)
        rows = _normed(self._first, self._mixed(mixed) + rows)
        return _normed(self._second, self._narrow(self._wide(rows)) + rows)


class Bert(nn.Module):  # type: ignore[misc]
    """Called as a BertModel is, of one token type. Keeps nothing of `network` but its embeddings."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.config = network.config
        self.embeddings = made = network.embeddings
        places = made.position_embeddings.weight + made.token_type_embeddings.weight[0]
        self._places = places.detach()
        heads = network.config.num_attention_heads
        self._layers = [_Layer(layer, heads) for layer in network.encoder.layer]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Hidden:
        rows = self.embeddings.word_embeddings(input_ids) + self._places[: input_ids.shape[1]]
        rows = _normed(self.embeddings.LayerNorm, rows)
        padded = not bool(attention_mask.all())
        seen = attention_mask[:, None, None, :].bool() if padded else None
        for layer in self._layers:
            rows = layer(rows, seen)
        return Hidden(rows)


def packed(network: Any) -> Bert | None:
    """`network` as a Bert, where it is one and lies where oneDNN multiplies."""
    return Bert(network) if _fits(network) else None


def _fits(network: Any) -> bool:
    config = network.config
    return (
        torch.backends.mkldnn.is_available()
        and _ONEDNN._is_mkldnn_bf16_supported()
        and type(network).__name__ == "BertModel"
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
        and not getattr(config, "is_decoder", False)
        and next(network.parameters()).device.type == "cpu"
    )


def _normed(norm: Any, rows: Tensor) -> Tensor:
    return F.layer_norm(rows.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
