"""Vectors, for many callers in common batches of like length.

By `sentences.py` where it can, which starts quickly, else by sentence-transformers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from appliance.errors import BadRequest, SettingsError
from appliance.inference import models
from appliance.inference.batcher import Batcher
from appliance.inference.cores import Cores
from appliance.types import Role, Vectors

# Of a batch. A question waits for one batch of documents; on a CPU larger ones are no faster.
TEXTS, CHARS = 16, 1600
GPU_TEXTS, GPU_CHARS = 128, 65_536
CHARS_A_TOKEN = 2  # of Japanese, at most: what is beyond the tokens a model reads costs nothing
# One core embeds a question in 17 ms, two in 30 (Sapphire Rapids, two hyperthreads): they wait for each other.
ONE_CORE_CHARS = 200
NOISE = 1e-3  # how far a row may move with its batch, which is what EmbedderContract allows


class LocalEmbedder:
    """The embedder inside `kura infer`. `folder` is a verified sentence-transformers folder.

    Multiplies in bfloat16 where the processor does; what is added up stays float32.
    With weights and sums in bfloat16 too, padding moved rows of multilingual-e5-small
    by 1.5e-3, more than the port allows; this way by 7e-4, and in float32 by 1e-7.
    """

    def __init__(self, folder: Path, name: str, cores: Cores, threads: int = 0) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch

        from appliance.inference import sentences

        self._threads = threads or os.cpu_count() or 1
        device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = sentences.Sentences if sentences.fits(folder) else Other
        self._model = kind(folder, device)
        self._name = name
        self._dim = self._model.dim
        reads = self._model.max_seq_length * CHARS_A_TOKEN
        self._device = device
        self._fast = has_bfloat16(device)
        gpu = device == "cuda"
        self._batches: Batcher[str, Vectors] = Batcher(
            self._forward,
            lambda text: min(len(text), reads),
            texts=GPU_TEXTS if gpu else TEXTS,
            chars=GPU_CHARS if gpu else CHARS,
            turn=lambda patient: cores.turn(patient=patient()),
            name="embedder",
        )

    @classmethod
    def default(cls, root: Path, cores: Cores, threads: int = 0) -> LocalEmbedder:
        """The one that Kura embeds with, its models under `root`. Raises DigestMismatch."""
        row = models.named(models.DEFAULT_EMBEDDER)
        folder, change = models.network(row, root)
        made = cls(folder, row.name, cores, threads)
        if change:
            made.adapt(change)
        made.settle()
        return made

    def adapt(self, adapter: Path) -> None:
        """Take in a verified low-rank change. Raises SettingsError for one of another model."""
        from appliance.inference import lora

        try:
            lora.merge(self.bert, *lora.read(adapter))
        except (KeyError, RuntimeError) as error:
            raise SettingsError(f"{adapter.name} does not fit the embedder: {error}") from None

    def settle(self) -> None:
        """Take no more changes, and lend the network to no reader: it is kept as it is computed with.

        The first forward passes are slow; nobody waits for these.
        """
        self._fast = self._fast and self._steady()
        if self._fast:
            halve(self.bert)
            if self._device == "cpu":
                self._model.lay_out()
        self.embed(["準備"], "query")

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def bert(self) -> Any:
        """The network itself, for a reader that is a change of it."""
        return self._model.bert

    @property
    def tokenizer(self) -> Any:
        return self._model.tokenizer

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Longer texts than the model reads (512 tokens) are cut at its end.

        Raises ModelBusy, ModelUnreachable, and BadRequest for what is no Unicode.
        """
        check_unicode(texts)
        rows = self._batches.rows(texts, role)
        return np.stack(rows) if rows else np.empty((0, self._dim), np.float32)

    def close(self) -> None:
        self._batches.close()

    def _forward(self, role: Role, texts: list[str]) -> Vectors:
        alone = len(texts) == 1 and len(texts[0]) <= ONE_CORE_CHARS
        with_threads(1 if alone else self._threads)
        with computing(self._device, fast=self._fast):
            rows = self._model.encode(texts, role)
        rows = rows.float()  # before lengths are taken, which bfloat16 gets wrong by 0.4 %
        return np.asarray((rows / rows.norm(dim=1, keepdim=True)).cpu().numpy(), np.float32)

    def _steady(self) -> bool:
        """Whether rows stay where they are, to within NOISE, however much is padded."""
        texts = [f"第{n}条 出張の宿泊費は{n}万円を上限とする。" * n for n in (1, 2, 3, 8)]
        alone = np.concatenate([self._forward("passage", [text]) for text in texts])
        return bool(np.abs(self._forward("passage", texts) - alone).max() <= NOISE)


class Other:
    """A model that only sentence-transformers knows."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"add_pooling_layer": False, "dtype": torch.float32},
        )
        self.bert = self._model[0].auto_model
        self.tokenizer = self._model.tokenizer.backend_tokenizer
        self.dim = int(self._model.get_embedding_dimension() or 0)
        self.max_seq_length = int(self._model.max_seq_length or 512)

    def lay_out(self) -> None:
        """Its network stays as its library has it."""

    def encode(self, texts: Sequence[str], role: Role) -> Any:
        return self._model.encode(
            list(texts),
            prompt_name=role,
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_tensor=True,
        )


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies in bfloat16 by itself; emulated it would be slower."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def computing(device: str, *, fast: bool) -> AbstractContextManager[Any]:
    """Inside, matrices are multiplied in bfloat16 if `fast`; all else stays float32."""
    import torch

    context: AbstractContextManager[Any] = torch.autocast(device, torch.bfloat16, enabled=fast)
    return context


def halve(network: Any) -> None:
    """Keep the matrices in bfloat16: otherwise each pass makes them so, half of a question's time."""
    import torch

    for part in network.modules():
        if isinstance(part, torch.nn.Linear):
            part.to(torch.bfloat16)


def with_threads(count: int) -> None:
    """For what this thread computes from now on."""
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def check_unicode(texts: Sequence[str]) -> None:
    """Raises BadRequest for half a surrogate pair, which no tokenizer takes."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRequest("a text is not valid Unicode") from error
