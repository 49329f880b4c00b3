"""What the reader learns from, and that its network learns it: a tiny BERT is taught here."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from appliance.inference import crossreader
from appliance.training import examples, reader

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
    """A BERT of two layers whose tokens are characters, in the embedder's form."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    at = tmp_path_factory.mktemp("small")
    signs = sorted({c for q, t, _ in PAIRS for c in q + t} - {"\n"})
    names = ["<s>", "<pad>", "</s>", "<unk>", *signs]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(at / "tokenizer.json"))
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=crossreader.READS,
        pad_token_id=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(at)
    return at


@pytest.fixture(scope="module")
def groups() -> list[reader.Group]:
    made = []
    for n, (question, text, answer) in enumerate(PAIRS):
        other = PAIRS[(n + 1) % len(PAIRS)][1]
        start = text.index(answer)
        made.append(reader.Group(question, (other, text), 1, (start, start + len(answer))))
    return made


def test_a_pair_keeps_the_places_of_the_passage(folder: Path) -> None:
    question, text, _ = PAIRS[0]
    pair = crossreader.Words(folder).pair(question, text)
    assert "".join(text[a:b] for a, b in pair.offsets) == text
    assert len(pair.tokens) == len(question) + len(text) + 3
    long = crossreader.Words(folder).pair(question * 40, text * 60)
    assert len(long.tokens) == crossreader.READS
    assert long.first == crossreader.QUESTION_TOKENS + 1


def test_it_learns_which_passage_answers_and_where_and_goes_on_where_it_was(
    folder: Path, groups: list[reader.Group], tmp_path: Path
) -> None:
    words = crossreader.Words(folder)
    plan = reader.Plan(steps=120, groups_per_step=4, rate=3e-3)
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    halves = []
    for steps in (60, 120):  # stopped halfway, and started again
        again = (g for _ in range(1000) for g in groups)
        half = reader.Plan(steps=steps, groups_per_step=4, rate=plan.rate)
        net = crossreader.Network(folder)
        halves.append(reader.train(net, again, words, half, tmp_path, tmp_path / "stop"))
    assert halves == [60, 120]
    log = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 121))
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]

    net, _ = reader.load(tmp_path, folder)
    for question, text, answer in PAIRS:
        others = [t for _, t, _ in PAIRS if t != text]
        pairs = [words.pair(question, t) for t in [*others, text]]
        with torch.no_grad():
            read = net(pairs)
        assert int(read.relevance.argmax()) == len(others)
        start, end, score = crossreader.spans(read, len(others), pairs[-1], 1)[0]
        assert (text[start:end], score > 0) == (answer, True)

    reader.export(tmp_path, tmp_path / "small.safetensors")
    from safetensors.torch import load_file

    merged = crossreader.Network(folder)
    merged.merge(load_file(tmp_path / "small.safetensors"), reader.ALPHA / reader.RANK)
    with torch.no_grad():
        assert torch.allclose(merged.eval()(pairs).relevance, read.relevance, atol=0.05)


def test_padding_changes_nothing(folder: Path) -> None:
    words, net = crossreader.Words(folder), crossreader.Network(folder).eval()
    reader.start_lora(net, 1)
    short, long = words.pair("寮は", "短い"), words.pair("寮は何年からですか", PAIRS[3][1] * 3)
    with torch.no_grad():
        alone, together = net([short]), net([short, long])
    assert torch.allclose(alone.relevance[0], together.relevance[0], atol=1e-5)
    one, other = (crossreader.spans(read, 0, short, 2) for read in (alone, together))
    assert [s[:2] for s in one] == [s[:2] for s in other]
    assert [s[2] for s in one] == pytest.approx([s[2] for s in other], abs=1e-4)


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
    made = reader.Maker(examples.read([path]), reader.Plan()).groups(random.Random(4))
    some = [next(made) for _ in range(300)]
    assert some == [
        next(g)
        for g in [reader.Maker(examples.read([path]), reader.Plan()).groups(random.Random(4))]
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
