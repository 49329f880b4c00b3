"""A BERT that makes vectors, as sentence-transformers would, without its libraries.

Importing them takes six seconds of a core, torch one and a half: transformers brings compilers, scipy
and losses along. Tensors have transformers' names, which adapters go by. Whatever is not a BERT with
mean pooling is left to sentence-transformers (`embed.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.inference.bert import packed

WORDS = "embeddings.word_embeddings.weight"
_MODULES = ["Transformer", "Pooling", "Normalize"]


@dataclass(frozen=True)
class Config:
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int
    hidden_act: str


@dataclass(frozen=True)
class Seen:
    last_hidden_state: Tensor  # (n, tokens, hidden)


class Embeddings(nn.Module):  # type: ignore[misc]
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.word_embeddings = _table(c.vocab_size, c.hidden_size)
        self.position_embeddings = _table(c.max_position_embeddings, c.hidden_size)
        self.token_type_embeddings = _table(c.type_vocab_size, c.hidden_size)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        summed = self.word_embeddings(tokens).float() + self.token_type_embeddings.weight[0]
        return self.LayerNorm(summed + self.position_embeddings.weight[: tokens.shape[1]])


def _table(rows: int, width: int) -> nn.Embedding:
    """Given its numbers: to make some of chance without a device, torch loads its compiler."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


class Output(nn.Module):  # type: ignore[misc]
    def __init__(self, c: Config, wide: int) -> None:
        super().__init__()
        self.dense = nn.Linear(wide, c.hidden_size)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, hidden: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(hidden) + before)


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, c: Config) -> None:
        super().__init__()
        self._heads = c.num_attention_heads
        own = {name: nn.Linear(c.hidden_size, c.hidden_size) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {"self": nn.ModuleDict(own), "output": Output(c, c.hidden_size)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(c.hidden_size, c.intermediate_size)})
        self.output = Output(c, c.intermediate_size)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        own = self.attention["self"]
        query, key, value = (
            own[name](hidden).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = self.attention["output"](heard.transpose(1, 2).flatten(2), hidden)
        return self.output(functional.gelu(self.intermediate["dense"](hidden)), hidden)


class Encoder(nn.Module):  # type: ignore[misc]
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(c) for _ in range(c.num_hidden_layers))


class BertModel(nn.Module):  # type: ignore[misc]
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Seen:
        mask = None if bool(attention_mask.all()) else attention_mask[:, None, None].bool()
        hidden = self.embeddings(input_ids)
        for block in self.encoder.layer:
            hidden = block(hidden, mask)
        return Seen(hidden)


class Sentences:
    """What of SentenceTransformer the embedder uses."""

    def __init__(self, folder: Path, device: str) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        told = _read(folder / "config.json")
        names = Config.__dataclass_fields__
        with torch.device("meta"):  # no numbers of chance, which the file's take the place of
            self.bert = BertModel(Config(**{name: told[name] for name in names}))
        tensors = load_file(folder / "model.safetensors")
        for name in tensors.keys() - {WORDS}:  # most of it: a row is made longer when it is read
            tensors[name] = tensors[name].float()
        self.bert.load_state_dict(tensors, assign=True)
        self.bert.to(device).eval().requires_grad_(False)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # "</s>" in a document is four characters
        self.max_seq_length = int(_read(folder / "sentence_bert_config.json")["max_seq_length"])
        self.dim = self.bert.config.hidden_size
        self.prompts = _read(folder / "config_sentence_transformers.json")["prompts"]
        self._device = device

    def lay_out(self) -> None:
        """As oneDNN multiplies it in bfloat16, where this processor does; no change fits it then."""
        self.bert = packed(self.bert) or self.bert

    @torch.inference_mode()  # type: ignore[misc,untyped-decorator,unused-ignore]
    def encode(self, texts: Sequence[str], role: str) -> Tensor:
        """Rows of length 1."""
        said = [self.prompts[role] + text for text in texts]
        rows = [self._cut(one.ids) for one in self.tokenizer.encode_batch(said)]
        tokens = torch.full((len(rows), max(map(len, rows))), self.bert.config.pad_token_id)
        seen = torch.zeros_like(tokens)
        for n, row in enumerate(rows):
            tokens[n, : len(row)] = torch.tensor(row)
            seen[n, : len(row)] = 1
        tokens, seen = tokens.to(self._device), seen.to(self._device)
        hidden = self.bert(tokens, seen).last_hidden_state
        weight = seen.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return functional.normalize(mean.float(), dim=1)

    def _cut(self, ids: list[int]) -> list[int]:
        """The mark at the end stays."""
        most = self.max_seq_length
        return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]


def fits(folder: Path) -> bool:
    """Whether `Sentences` gives what sentence-transformers would for this folder."""
    try:
        told, pooled = _read(folder / "config.json"), _read(folder / "1_Pooling" / "config.json")
        modules = [one["type"].rpartition(".")[2] for one in _read(folder / "modules.json")]
        roles = _read(folder / "config_sentence_transformers.json")["prompts"]
        cased = not _read(folder / "sentence_bert_config.json").get("do_lower_case")
    except (OSError, ValueError, KeyError):
        return False
    means = [name for name, on in pooled.items() if name.startswith("pooling_mode") and on]
    usual = told.get("model_type") == "bert" and told.get("hidden_act") == "gelu"
    known = all(name in told for name in Config.__dataclass_fields__)
    absolute = told.get("position_embedding_type", "absolute") == "absolute"
    whole = (folder / "model.safetensors").is_file() and (folder / "tokenizer.json").is_file()
    mean = means == ["pooling_mode_mean_tokens"] and modules == _MODULES
    return usual and known and absolute and whole and mean and cased and {*roles} >= _ROLES


_ROLES = {"query", "passage"}


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
