"""That the retrieval adapter learns what it is given, in the form in which the product embeds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from appliance import settings
from appliance.inference import lora as adapters
from appliance.inference import models
from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.training import groups, retriever
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


def test_a_question_comes_to_its_passage_and_the_run_goes_on_where_it_was(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    reached = []
    for steps in (60, 120):
        plan = retriever.Plan(steps=steps, groups_per_step=6, rate=5e-3)
        net = retriever.Network.load(folder)
        made = itertools.cycle(GROUPS)
        reached.append(retriever.train(net, made, plan, tmp_path, tmp_path / "stop"))
    assert reached == [60, 120]
    log = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 121))

    passages = [g.texts[1] for g in GROUPS]
    net, _ = retriever.load(tmp_path, folder)
    before = retriever.Network.load(folder).eval()
    assert _first(net, passages) == list(range(len(GROUPS))) != _first(before, passages)

    retriever.export(tmp_path, tmp_path / "small.safetensors")
    adapters.merge(before.bert, *adapters.read(tmp_path / "small.safetensors"))
    assert _first(before, passages) == list(range(len(GROUPS)))


def _first(net: retriever.Network, passages: list[str]) -> list[int]:
    with torch.no_grad():
        asked, rows = net([g.question for g in GROUPS], "query"), net(passages, "passage")
    found: list[int] = (asked @ rows.T).argmax(1).tolist()
    return found


def test_office_papers_do_not_stand_against_questions_about_others(folder: Path) -> None:
    net = retriever.Network.load(folder).eval()
    one, other = (
        groups.Group(g.question, g.texts, g.right, office=True) for g in (GROUPS[0], GROUPS[3])
    )
    with torch.no_grad():
        alone = [float(retriever.loss(net, [g], 0.1)) for g in (one, other)]
        together = float(retriever.loss(net, [one, other], 0.1))
        against = float(retriever.loss(net, [GROUPS[0], GROUPS[3]], 0.1))
    assert together == pytest.approx(sum(alone) / 2, abs=1e-4)
    assert against > together


def test_no_two_of_a_batch_ask_for_one_passage() -> None:
    unanswered = groups.Group("誰も", ("答えない",), -1)
    made = itertools.cycle([*GROUPS, GROUPS[0], unanswered])
    for some in itertools.islice(retriever.batches(made, 5), 20):
        wanted = [g.texts[g.right] for g in some]
        assert len(set(wanted)) == len(some) == 5
        assert unanswered not in some


def test_rows_are_those_that_the_product_makes() -> None:
    root = settings.load({}).models
    models.unpack(root)
    model = models.verified(models.named("multilingual-e5-small"), root)
    embedder = LocalEmbedder(model, "e5", Cores())
    texts = ["出張旅費規程\n宿泊費は1泊10,000円を上限とする。", "泊まりはいくら？"]
    with torch.no_grad():
        rows = retriever.Network.load(model).eval()(texts, "passage")
    assert torch.allclose(rows, torch.tensor(embedder.embed(texts, "passage")), atol=1e-3)
    embedder.close()
