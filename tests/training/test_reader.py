"""What the reader learns from, and that its network learns it: a tiny BERT is taught here."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from appliance.errors import SettingsError
from appliance.inference import crossreader, lora, models
from appliance.training import descent, examples, groups, packed, reader, retriever
from tests import small

ADAPTER = models.ADAPTERS / "kura-reader-v6.safetensors"
PAIRS = [
    (
        f"{thing}は何年からですか",
        f"{thing}規程\n{thing}は{year}年に始まった。次の年に改めた。",
        f"{year}年",
    )
    for thing, year in (("出張", 1998), ("休暇", 2004), ("副業", 2011), ("寮", 1987))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.bert(tmp_path_factory.mktemp("small"), "".join(q + t for q, t, _ in PAIRS))


@pytest.fixture(scope="module")
def taught() -> list[groups.Group]:
    made = []
    for question, text, answer in PAIRS:
        others = [t for _, t, _ in PAIRS if t != text]
        start = text.index(answer)
        span = (start, start + len(answer))
        made.append(groups.Group(question, (*others, text), len(others), span))
    return made


def test_a_pair_keeps_the_places_of_the_passage(folder: Path) -> None:
    question, text, _ = PAIRS[0]
    pair = crossreader.Tokens.load(folder).pair(question, text)
    assert "".join(text[a:b] for a, b in pair.offsets) == text
    assert len(pair.tokens) == len(question) + len(text) + 3
    long = crossreader.Tokens.load(folder).pair(question * 40, text * 60)
    assert len(long.tokens) == crossreader.READS
    assert long.first == crossreader.QUESTION_TOKENS + 1


@pytest.mark.long
def test_it_learns_which_passage_answers_and_where_and_goes_on_where_it_was(
    folder: Path, taught: list[groups.Group], tmp_path: Path
) -> None:
    words = crossreader.Tokens.load(folder)
    packed.pack(taught, folder, tmp_path / "packed", {})
    learned = packed.Packed(tmp_path / "packed")
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    halves = []
    for steps in (60, 400):  # stopped halfway, and started again
        half = descent.Plan(steps=steps, groups_per_step=4, rate=2e-3)
        net = crossreader.Network.load(learned.folder / "model")
        halves.append(reader.train(net, learned, half, tmp_path, tmp_path / "stop"))
    assert halves == [60, 400]
    log = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 401))
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]

    net, _ = reader.load(tmp_path, folder)
    for question, text, answer in PAIRS:
        others = [t for _, t, _ in PAIRS if t != text]
        pairs = [words.pair(question, t) for t in [*others, text]]
        with torch.no_grad():
            read = net(pairs)
        assert int(read.relevance.argmax()) == len(others)
        found = crossreader.spans(read, len(others), pairs[-1], 1)[0]
        assert (text[found.start : found.end], found.score > 0) == (answer, True)

    small_one = tmp_path / "small.safetensors"
    reader.main(["export", "--out", str(tmp_path), "--adapter", str(small_one)])

    merged = crossreader.Network.load(folder)
    merged.merge(load_file(small_one), reader.ALPHA / reader.RANK)
    with torch.no_grad():
        assert torch.allclose(merged.eval()(pairs).relevance, read.relevance, atol=0.05)


def test_an_adapter_may_be_the_mean_of_a_run_and_another(tmp_path: Path) -> None:
    torch.save(
        {"learned": {"a": torch.zeros(2, 3)}, "step": 1, "spent_s": 1.0}, tmp_path / "state.pt"
    )
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    (tmp_path / "loss.jsonl").write_text('{"step": 1, "loss": 1.0, "rate": 0.1}\n', "utf-8")
    other, between = tmp_path / "other.safetensors", tmp_path / "between.safetensors"
    export = ["export", "--out", str(tmp_path), "--adapter", str(between)]
    for train, scale in (
        (reader, reader.ALPHA / reader.RANK),
        (retriever, retriever.ALPHA / retriever.RANK),
    ):
        save_file({"a": torch.ones(2, 3)}, other, {"scale": str(scale)})
        train.main([*export, "--mean-with", str(other), "--share", "0.75"])
        assert load_file(between)["a"].tolist() == [[0.25] * 3] * 2
        told = json.loads(between.with_suffix(".json").read_text("utf-8"))["mean_with"]
        digest = hashlib.sha256(other.read_bytes()).hexdigest()
        assert told == {"file": other.name, "sha256": digest, "share_of_this_run": 0.75}
        between.unlink()
        save_file({"a": torch.ones(2, 3)}, other, {"scale": str(scale + 1)})
        with pytest.raises(SettingsError, match="scale"):
            train.main([*export, "--mean-with", str(other)])
        assert not between.exists()
        train.main(export)
        assert load_file(between)["a"].tolist() == [[0.0] * 3] * 2
        assert "mean_with" not in json.loads(between.with_suffix(".json").read_text("utf-8"))


def test_what_is_packed_is_what_the_product_reads(
    folder: Path, taught: list[groups.Group], tmp_path: Path
) -> None:
    unanswered = groups.Group("誰も", ("答えない",), -1)
    long = groups.Group("寮は", ("出張" * 400 + "寮",), 0, (800, 801))
    packed.pack([*taught, unanswered, long], folder, tmp_path, {"seed": 3})
    found, words = packed.Packed(tmp_path), crossreader.Tokens.load(folder)
    assert (len(found), found.facts["seed"]) == (6, 3)
    whole = crossreader.Network.load(folder).bert.get_input_embeddings().weight
    cut = crossreader.Network.load(tmp_path / "model").bert.get_input_embeddings().weight
    for n, group in enumerate([*taught, unanswered, long]):
        pairs = [words.pair(group.question, text) for text in group.texts]
        for made, pair in zip(found[n].pairs(), pairs, strict=True):
            assert (made.first, len(made.offsets)) == (pair.first, len(pair.offsets))
            assert torch.allclose(cut[made.tokens], whole[pair.tokens], atol=1e-3)
        assert (found[n].right, found[n].office) == (group.right, False)
        if n < len(taught):
            first, last = found[n].answer or (-1, -1)
            text, offsets = group.texts[group.right], pairs[group.right].offsets
            assert (offsets[first][0], offsets[last][1]) == group.answer
            assert text[offsets[first][0] : offsets[last][1]].endswith("年")
    assert found[4].answer is None
    assert found[5].answer == (800, 800) and len(found[5].pairs()[0].tokens) == crossreader.READS
    net = crossreader.Network.load(tmp_path / "model")
    reader.start_lora(net, 1)
    assert reader.loss(net, [found[n] for n in range(6)]).item() > 0  # the cut one is nowhere

    rounds = list(itertools.islice(found.batches(1, 2), 3 * 4))
    for one in (rounds[n : n + 3] for n in range(0, 12, 3)):
        assert sorted(g.question for some in one for g in some) == sorted(
            found[n].question for n in range(6)
        )
    answered = itertools.islice(found.batches(1, 5, answered=True), 2)
    assert all(g.right >= 0 for some in answered for g in some)
    again = itertools.islice(found.batches(1, 2), 3)
    assert [g for some in again for g in some] == [g for some in rounds[:3] for g in some]


def test_padding_changes_nothing(folder: Path) -> None:
    words, net = crossreader.Tokens.load(folder), crossreader.Network.load(folder).eval()
    reader.start_lora(net, 1)
    short, long = words.pair("寮は", "短い"), words.pair("寮は何年からですか", PAIRS[3][1] * 3)
    with torch.no_grad():
        alone, together = net([short]), net([short, long])
    assert torch.allclose(alone.relevance[0], together.relevance[0], atol=1e-5)
    one, other = (crossreader.spans(read, 0, short, 2) for read in (alone, together))
    assert [(w.start, w.end) for w in one] == [(w.start, w.end) for w in other]
    assert [w.score for w in one] == pytest.approx([w.score for w in other], abs=1e-4)


def test_an_answer_is_in_the_passage_that_is_right_and_in_no_other(tmp_path: Path) -> None:
    articles = []
    for n in range(8):
        text = f"第{n}蔵は{1700 + n * 13}年に建った。持ち主は蔵元{n}兵衛である。今も使われる。"
        asked = [
            {
                "question": f"第{n}蔵は{what}ですか。",
                "answers": [{"text": a, "answer_start": text.index(a)}],
            }
            for what, a in (("いつ建ったの", f"{1700 + n * 13}年"), ("誰のもの", f"蔵元{n}兵衛"))
        ]
        articles.append({"title": f"第{n}蔵", "paragraphs": [{"context": text, "qas": asked}]})
    path = tmp_path / "some.json"
    path.write_text(json.dumps({"data": articles}, ensure_ascii=False), "utf-8")
    made = groups.Maker(examples.read([path]), 2, 0.12).groups(random.Random(4))
    some = [next(made) for _ in range(300)]
    assert some == [
        next(g)
        for g in [groups.Maker(examples.read([path]), 2, 0.12).groups(random.Random(4))]
        for _ in range(300)
    ]
    answered = [g for g in some if g.right >= 0]
    assert 0.02 < 1 - len(answered) / len(some) < 0.3
    for group in answered:
        start, end = group.answer
        answer = group.texts[group.right][start:end]
        others = [t for n, t in enumerate(group.texts) if n != group.right]
        if group.texts[group.right].startswith("第"):  # two office papers may hold one number
            assert answer in group.texts[group.right] and not any(answer in t for t in others)


def test_the_adapter_is_the_one_its_card_describes() -> None:
    card = json.loads(ADAPTER.with_suffix(".json").read_text("utf-8"))
    page = ADAPTER.with_suffix(".md").read_text("utf-8")
    data = ADAPTER.read_bytes()
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["size_bytes"] == len(data) < 16_000_000
    assert card["sha256"] in page
    assert f"{card['reached']['step']} steps" in page
    assert card["base"]["sha256"] == models.E5_FILES["model.safetensors"]
    assert not re.search(r"/(?:home|tmp|root|work)/", page + json.dumps(card))


def test_the_adapter_changes_every_linear_layer_and_has_its_heads() -> None:
    with safe_open(ADAPTER, "pt") as file:
        names = set(file.keys())
        assert all(torch.isfinite(file.get_tensor(name)).all() for name in names)
    layers = {f"{n}.{linear}" for n in range(12) for linear in lora.LINEAR}
    heads = {f"{n}.{p}" for n in ("pool", "score", "span") for p in ("weight", "bias")}
    assert names == {f"{name}.{half}" for name in layers for half in ("lora_a", "lora_b")} | heads


def test_office_papers_stand_among_others_and_only_the_right_one_answers() -> None:
    dice = random.Random(11)
    made = [g for _ in range(300) for g in groups.office(dice)]
    answered = [g for g in made if g.right >= 0]
    assert len(answered) > 300
    for g in answered:
        text, (start, end) = g.texts[g.right], g.answer
        assert text[start:end] and text.count(text[start:end], text.index("\n")) == 1
    lengths = [len(t) for g in answered for t in g.texts]
    assert sum(n > 150 for n in lengths) > 0.6 * len(lengths)
    assert any(" | " in t for g in answered for t in g.texts)  # as the parsers write a table
