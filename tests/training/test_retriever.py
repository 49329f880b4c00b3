"""That the retrieval adapter learns what it is given, in the form in which the product embeds."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from appliance import settings
from appliance.inference import lora as adapters
from appliance.inference import models
from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.training import groups, packed, retriever
from tests import small

THINGS = ("出張", "休暇", "副業", "寮", "備品", "研修")
CALLED = ("遠出", "休み", "内職", "宿舎", "道具", "勉強")  # what nobody could guess from letters
GROUPS = [
    groups.Group(
        f"{other}はどう",
        (f"{THINGS[n - 1]}規程\n{THINGS[n - 1]}のこと", f"{it}規程\n{it}のこと"),
        1,
    )
    for n, (it, other) in enumerate(zip(THINGS, CALLED, strict=True))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    signs = "query: passage: " + "".join(g.question + "".join(g.texts) for g in GROUPS)
    return small.bert(tmp_path_factory.mktemp("small"), signs)


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> packed.Packed:
    out = tmp_path_factory.mktemp("packed")
    packed.pack(GROUPS, folder, out, {})
    return packed.Packed(out)


@pytest.mark.long
def test_a_question_comes_to_its_passage_and_the_run_goes_on_where_it_was(
    folder: Path, found: packed.Packed, tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    reached = []
    for steps in (60, 120):
        plan = retriever.Plan(steps=steps, groups_per_step=6, rate=5e-3)
        net = retriever.Network.load(found.folder / "model", found.before)
        reached.append(retriever.train(net, found, plan, tmp_path, tmp_path / "stop"))
    assert reached == [60, 120]
    log = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 121))

    passages = [g.texts[1] for g in GROUPS]
    words = retriever.Words(folder)
    net, _ = retriever.load(tmp_path, folder, words.before)
    before = retriever.Network.load(folder, words.before).eval()
    assert _first(net, words, passages) == list(range(len(GROUPS)))
    assert _first(before, words, passages) != list(range(len(GROUPS)))

    adapter = tmp_path / "small.safetensors"
    retriever.main(["export", "--out", str(tmp_path), "--adapter", str(adapter)])
    adapters.merge(before.bert, *adapters.read(adapter))
    assert _first(before, words, passages) == list(range(len(GROUPS)))


def _first(net: retriever.Network, words: retriever.Words, passages: list[str]) -> list[int]:
    with torch.no_grad():
        asked = net(words.rows([g.question for g in GROUPS]), "query")
        rows = net(words.rows(passages), "passage")
    found: list[int] = (asked @ rows.T).argmax(1).tolist()
    return found


def test_office_papers_do_not_stand_against_questions_about_others(found: packed.Packed) -> None:
    net = retriever.Network.load(found.folder / "model", found.before).eval()
    one, other = (replace(found[n], office=True) for n in (0, 3))
    with torch.no_grad():
        alone = [float(retriever.loss(net, [g], 0.1)) for g in (one, other)]
        together = float(retriever.loss(net, [one, other], 0.1))
        against = float(retriever.loss(net, [found[0], found[3]], 0.1))
    assert together == pytest.approx(sum(alone) / 2, abs=1e-4)
    assert against > together


def test_no_two_of_a_batch_ask_for_one_passage(found: packed.Packed) -> None:
    some = [found[n] for n in (0, 1, 2, 0)]
    assert retriever.distinct(some) == [found[0], found[1], found[2]]


def test_rows_are_those_that_the_product_makes() -> None:
    root = settings.load({}).models
    models.unpack(root)
    folder, change = models.network(models.named(models.DEFAULT_EMBEDDER), root)
    embedder = LocalEmbedder.default(root, Cores())
    texts = ["出張旅費規程\n宿泊費は1泊10,000円を上限とする。", "泊まりはいくら？"]
    words = retriever.Words(folder)
    net = retriever.Network.load(folder, words.before).eval()
    with torch.no_grad():
        before = net(words.rows(texts), "passage")
        adapters.merge(net.bert, *adapters.read(change or folder))
        rows = net(words.rows(texts), "passage")
    assert torch.allclose(rows, torch.tensor(embedder.embed(texts, "passage")), atol=2e-3)
    assert not torch.allclose(rows, before, atol=2e-2)
    embedder.close()


def test_the_adapter_is_the_one_its_card_describes() -> None:
    path = models.ADAPTERS / "kura-e5-v1.safetensors"
    card = json.loads(path.with_suffix(".json").read_text("utf-8"))
    page = path.with_suffix(".md").read_text("utf-8")
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["size_bytes"] == path.stat().st_size < 16_000_000
    assert card["sha256"] in page and f"{card['reached']['step']} steps" in page
    assert card["base"]["sha256"] == models.E5_FILES["model.safetensors"]
    assert not re.search(r"/(?:home|tmp|root|work)/", page + json.dumps(card))
    tensors, scale = adapters.read(path)
    layers = {f"{n}.{linear}" for n in range(12) for linear in adapters.LINEAR}
    assert set(tensors) == {f"{name}.{half}" for name in layers for half in ("lora_a", "lora_b")}
    assert scale == retriever.ALPHA / retriever.RANK
    assert all(torch.isfinite(part).all() for part in tensors.values())
