"""Vectors by sentence-transformers, in small batches of like length."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from appliance.inference.cores import Cores
from appliance.types import Role, Vectors

BATCH = 8  # texts a turn: about a third of a second on two cores


class LocalEmbedder:
    """The embedder inside `kura infer`. `folder` is a verified sentence-transformers folder."""

    def __init__(self, folder: Path, name: str, cores: Cores, threads: int = 0) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads or os.cpu_count() or 1)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = SentenceTransformer(
            str(folder),
            device=self._device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"add_pooling_layer": False},
        )
        self._name = name
        self._cores = cores
        self.embed(["準備"], "query")  # the first forward pass is slow; nobody waits for this one

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        dim = self._model.get_embedding_dimension()
        assert dim is not None
        return int(dim)

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Longer texts than the model reads (512 tokens) are cut at its end."""
        out = np.zeros((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            with self._cores.turn(patient=role == "passage"):
                out[rows] = self._model.encode(
                    [texts[i] for i in rows],
                    prompt_name=role,
                    batch_size=BATCH,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
        return out
