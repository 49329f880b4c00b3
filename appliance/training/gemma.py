"""Gemma 3's blocks in plain torch, with a LoRA on every linear layer of the blocks.

Weights come from the GGUF file, dequantised to float32, so that the adapter is trained on the
very numbers llama.cpp will use. Conventions of that file: norm weights already hold Gemma's +1,
the embedding is also the output head, every sixth block sees the whole text, the others see a
window. `names` below are GGUF's own tensor names; LoRA tensors are `<name>.lora_a` and `.lora_b`.

Several questions about the same passages travel in one sequence: see `Row`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliance.inference import embed
from appliance.training import descent

LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
HEAD_NORMS = ("attn_q_norm", "attn_k_norm")
ALL_SEE_EVERY = 6  # blocks 5, 11, 17 … attend to everything
LOCAL_THETA = 10_000.0
EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Shape:
    blocks: int
    width: int
    heads: int
    kv_heads: int
    head: int
    window: int
    theta: float


@dataclass(frozen=True, slots=True)
class Row:
    """One shared beginning and the branches that follow it, none of which sees another.

    `places` are positions as each branch would have them alone, so a row gives exactly the
    results of its prompts one by one, for one reading of the passages.
    """

    tokens: Tensor  # (t,)
    places: Tensor  # (t,)
    branches: Tensor  # (t,) 0 for the beginning, then 1, 2 …
    asked: Tensor  # (m,) indices whose next token is learned
    wanted: Tensor  # (m,) those next tokens


def row(beginning: Sequence[int], branches: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Row:
    """A row from the beginning's tokens and, for each branch, (rest of prompt, target)."""
    tokens, places, owner = list(beginning), list(range(len(beginning))), [0] * len(beginning)
    asked: list[int] = []
    wanted: list[int] = []
    for n, (rest, target) in enumerate(branches, 1):
        seen = [*rest, *target[:-1]]
        first = len(tokens) + len(rest) - 1
        asked += range(first, first + len(target))
        wanted += target
        tokens += seen
        places += range(len(beginning), len(beginning) + len(seen))
        owner += [n] * len(seen)
    return Row(*(torch.tensor(x) for x in (tokens, places, owner, asked, wanted)))


def stacked(rows: Sequence[Row], device: str = "cpu") -> Row:
    """Beside one another, (b, t), the shorter ones padded; `asked` counts through all of them.

    What pads a row stands behind all of it, where nothing of the row looks.
    """
    together = [
        nn.utils.rnn.pad_sequence([getattr(r, part) for r in rows], batch_first=True)
        for part in ("tokens", "places", "branches")
    ]
    length = together[0].shape[1]
    asked = torch.cat([r.asked + n * length for n, r in enumerate(rows)])
    wanted = torch.cat([r.wanted for r in rows])
    return Row(*(part.to(device) for part in (*together, asked, wanted)))


class Gemma:
    def __init__(self, shape: Shape, weights: dict[str, Tensor], rank: int, alpha: float) -> None:
        self.shape = shape
        self.weights = weights
        self.rank = rank
        self.scale = alpha / rank
        self.lora: dict[str, nn.Parameter] = {}
        self.device = "cpu"

    def start_lora(self, seed: int) -> None:
        """Fresh adapters: A is random, B is zero, so the model begins as it was."""
        dice = torch.Generator().manual_seed(seed)
        for n in range(self.shape.blocks):
            for name in LINEAR:
                out, into = self.weights[f"blk.{n}.{name}"].shape
                a = torch.randn(self.rank, into, generator=dice) / math.sqrt(into)
                self.lora[f"blk.{n}.{name}.lora_a"] = nn.Parameter(a)
                self.lora[f"blk.{n}.{name}.lora_b"] = nn.Parameter(torch.zeros(out, self.rank))

    def to(self, device: str) -> None:
        self.device = device
        self.weights = {name: part.to(device) for name, part in self.weights.items()}
        self.lora = {name: nn.Parameter(part.data.to(device)) for name, part in self.lora.items()}

    def loss(self, rows: Sequence[Row], numbers: descent.Numbers = "float32") -> Tensor:
        """The summed loss over the rows' wanted tokens."""
        given = stacked(rows, self.device)
        with embed.computing(self.device, fast=numbers == "bfloat16"):
            hidden = self.hidden(given).flatten(0, 1)[given.asked].float()
        logits = hidden @ self.weights["token_embd"].T
        return F.cross_entropy(logits, given.wanted, reduction="sum")

    def greedy(self, prompt: Sequence[int], stop: int, limit: int) -> list[int]:
        """The most likely continuation; slow, for checking only."""
        tokens = list(prompt)
        with torch.no_grad():
            while len(tokens) < len(prompt) + limit:
                hidden = self.hidden(stacked([row(tokens, [])]))[0, -1]
                best = int((self.weights["token_embd"] @ hidden).argmax())
                if best == stop:
                    break
                tokens.append(best)
        return tokens[len(prompt) :]

    def hidden(self, given: Row) -> Tensor:
        """(b, t, width) of rows that are `stacked`."""
        shape = self.shape
        x = self.weights["token_embd"][given.tokens] * math.sqrt(shape.width)
        everything, near = masks(given, shape.window)
        far_turn = turns(given.places, shape.head, shape.theta)
        near_turn = turns(given.places, shape.head, LOCAL_THETA)
        for n in range(shape.blocks):
            all_seen = (n + 1) % ALL_SEE_EVERY == 0
            mask, turn = (everything, far_turn) if all_seen else (near, near_turn)
            heard = self._attend(n, self._norm(x, f"blk.{n}.attn_norm"), mask, turn)
            x = x + self._norm(heard, f"blk.{n}.post_attention_norm")
            thought = self._think(n, self._norm(x, f"blk.{n}.ffn_norm"))
            x = x + self._norm(thought, f"blk.{n}.post_ffw_norm")
        return self._norm(x, "output_norm")

    def _attend(self, n: int, x: Tensor, mask: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        shape, (rows, length, _) = self.shape, x.shape
        q = self._linear(n, "attn_q", x).view(rows, length, shape.heads, shape.head)
        k = self._linear(n, "attn_k", x).view(rows, length, shape.kv_heads, shape.head)
        v = self._linear(n, "attn_v", x).view(rows, length, shape.kv_heads, shape.head)
        q = turned(self._norm(q, f"blk.{n}.attn_q_norm"), turn).transpose(1, 2)
        k = turned(self._norm(k, f"blk.{n}.attn_k_norm"), turn).transpose(1, 2)
        shared = shape.heads // shape.kv_heads
        k = k.repeat_interleave(shared, 1)
        v = v.transpose(1, 2).repeat_interleave(shared, 1)
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._linear(n, "attn_output", heard.transpose(1, 2).reshape(rows, length, -1))

    def _think(self, n: int, x: Tensor) -> Tensor:
        gate = F.gelu(self._linear(n, "ffn_gate", x), approximate="tanh")
        return self._linear(n, "ffn_down", gate * self._linear(n, "ffn_up", x))

    def _linear(self, n: int, name: str, x: Tensor) -> Tensor:
        key = f"blk.{n}.{name}"
        y = x @ self.weights[key].T
        if not self.lora:
            return y
        low = (x @ self.lora[f"{key}.lora_a"].T) * self.scale
        return y + low @ self.lora[f"{key}.lora_b"].T

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weights[name], EPSILON)


def masks(given: Row, window: int) -> tuple[Tensor, Tensor]:
    """What each token of a row may see: all of its own past, and the last `window` of it."""
    place, branch = given.places[:, None], given.branches[:, None]  # (b, 1, t): alike for the heads
    own = (branch[..., None, :] == 0) | (branch[..., None, :] == branch[..., None])
    order = torch.arange(place.shape[-1], device=place.device)
    everything = own & (order[None, :] <= order[:, None])
    return everything, everything & (place[..., None] - place[..., None, :] < window)


def turns(places: Tensor, head: int, theta: float) -> tuple[Tensor, Tensor]:
    steps = torch.arange(0, head, 2, dtype=torch.float32, device=places.device)
    speed = theta ** (-steps / head)
    angle = places[..., None].float() * speed
    return angle.cos()[..., None, :], angle.sin()[..., None, :]


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def load(model: Path, rank: int, alpha: float) -> Gemma:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(model)

    def number(key: str) -> float:
        return float(reader.fields[f"gemma3.{key}"].contents())

    shape = Shape(
        blocks=int(number("block_count")),
        width=int(number("embedding_length")),
        heads=int(number("attention.head_count")),
        kv_heads=int(number("attention.head_count_kv")),
        head=int(number("attention.key_length")),
        window=int(number("attention.sliding_window")),
        theta=number("rope.freq_base"),
    )
    weights = {
        t.name.removesuffix(".weight"): torch.from_numpy(
            dequantize(t.data, t.tensor_type).copy()
        ).float()
        for t in reader.tensors
    }
    return Gemma(shape, weights, rank, alpha)
