"""The network that starts quickly gives the vectors of sentence-transformers, or leaves them to it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from appliance.inference import models, sentences
from appliance.inference.embed import Other
from appliance.settings import Settings

LONG = "長い文。" * 900
SHORT = [
    "準備",
    "第1条 出張の宿泊費は1万円を上限とする。",
    " </s> と <pad> や <mask> を書く ",
    "9:00～17:00  半角 ｶﾅ",
    "",
    "　全角の空白から始まる\n改行",
]


@pytest.mark.models
def test_the_vectors_are_the_same(model_settings: Settings) -> None:
    row = models.named(models.DEFAULT_EMBEDDER)
    folder, _ = models.network(row, model_settings.models)
    assert sentences.fits(folder)
    own, other = sentences.Sentences(folder, "cpu"), Other(folder, "cpu")
    assert (own.dim, own.max_seq_length) == (other.dim, other.max_seq_length)
    batches = [SHORT, [LONG, SHORT[0]], *([text] for text in SHORT)]  # padded, and alone
    for fast, texts in itertools.product((False, True), batches):
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            ours, theirs = own.encode(texts, "query"), other.encode(texts, "query")
        assert np.abs(ours.numpy() - theirs.float().numpy()).max() < 1e-6, (fast, texts)


@pytest.mark.models
@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "model_type", "roberta"),
        ("config.json", "hidden_act", "relu"),
        ("1_Pooling/config.json", "pooling_mode_cls_token", True),
        ("sentence_bert_config.json", "do_lower_case", True),
        ("config_sentence_transformers.json", "prompts", {"query": "query: "}),
    ],
)
def test_another_kind_of_model_is_left_to_the_library(
    model_settings: Settings, tmp_path: Path, file: str, key: str, value: object
) -> None:
    row = models.named(models.DEFAULT_EMBEDDER)
    folder, _ = models.network(row, model_settings.models)
    copy = tmp_path / "model"
    (copy / "1_Pooling").mkdir(parents=True)
    for path in folder.rglob("*.*"):
        (copy / path.relative_to(folder)).symlink_to(path)
    assert sentences.fits(copy)
    told = json.loads((copy / file).read_text("utf-8")) | {key: value}
    (copy / file).unlink()
    (copy / file).write_text(json.dumps(told), "utf-8")
    assert not sentences.fits(copy)
    assert not sentences.fits(tmp_path)


@pytest.mark.models
def test_no_large_library_is_loaded(model_settings: Settings) -> None:
    """They take most of the time of a start, in which nobody is served."""
    code = (
        "import sys; from pathlib import Path; from appliance.inference.cores import Cores;"
        "from appliance.inference import models, crossreader; from appliance.inference.embed import LocalEmbedder;"
        f"root = Path({str(model_settings.models)!r}); made = LocalEmbedder.default(root, Cores());"
        "made.embed(['準備'], 'query');"
        "large = {'transformers', 'sentence_transformers', 'scipy', 'sklearn', 'torch._dynamo'};"
        "print(sorted(large & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
