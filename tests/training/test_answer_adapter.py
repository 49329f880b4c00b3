"""What the adapter learns from, how it is measured, and that the file in the repository is whole."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path

import gguf
import pytest
import torch

from appliance.ask import prompt
from appliance.training import (
    answer_adapter,
    company,
    evaluate,
    examples,
    gemma,
    groups,
    tokens,
)

ADAPTERS = Path(evaluate.__file__).parent / "adapters"
ADAPTER = ADAPTERS / "kura-answer-v3.gguf"
CARD = json.loads(ADAPTER.with_suffix(".json").read_text("utf-8"))


def article(title: str, number: int) -> dict[str, object]:
    """Three paragraphs, each with questions whose answers stand nowhere else."""
    paragraphs = []
    for n in range(3):
        year, town, name = 1100 + 31 * number + 7 * n, f"川{number}{n}里町", f"棟梁{number}{n}兵衛"
        text = (
            f"{title}の第{n}の蔵は、{year}年に建てられた。\n"
            f"場所は{town}(旧街道)である。その後も長く使われた。\n"
            f"{title}の第{n}の蔵を建てたのは{name}である。"
        )
        paragraphs.append(
            {
                "context": text,
                "qas": [
                    {
                        "question": f"{title}の第{n}の蔵は{what}?",
                        "answers": [{"text": answer, "answer_start": text.index(answer)}],
                    }
                    for what, answer in (
                        ("いつ建てられましたか", f"{year}年"),
                        ("どこにありますか", town),
                        ("誰が建てましたか", name),
                    )
                ],
            }
        )
    return {"title": title, "paragraphs": paragraphs}


@pytest.fixture
def paragraphs(tmp_path: Path) -> list[examples.Paragraph]:
    found = {"data": [article(f"{name}屋敷", n) for n, name in enumerate("青赤白黒金銀紅紫")]}
    path = tmp_path / "jaquad_train_0000.json"
    path.write_text(json.dumps(found, ensure_ascii=False), "utf-8")
    return examples.read([path])


@pytest.fixture
def cases(paragraphs: list[examples.Paragraph]) -> list[examples.Case]:
    maker, dice = examples.Maker(paragraphs), random.Random(3)
    made = [maker.case(p, dice) for p in paragraphs * 4]
    return [c for c in made if c] + [company.case(dice) for _ in range(200)]


def test_an_answer_stands_in_the_passage_it_cites(cases: list[examples.Case]) -> None:
    answered = [(c, q) for c in cases for q in c.questions if q.cited]
    assert len(answered) > 300
    for case, question in answered:
        assert question.answer in case.passages[question.cited - 1].text
        assert question.target == f"{question.answer}[{question.cited}]"
        assert len(question.answer) <= examples.ANSWER_LIMIT_CHARS


def test_a_refused_question_has_its_answer_in_no_passage(cases: list[examples.Case]) -> None:
    refused = [(c, q) for c in cases for q in c.questions if not q.cited]
    questions = sum(len(c.questions) for c in cases)
    assert 0.10 < len(refused) / questions < 0.22
    for case, question in refused:
        assert question.target == prompt.REFUSAL
        if question.answer:  # an office paper may be silent on a thing that was never drawn
            assert not any(question.answer in p.text for p in case.passages)


def test_the_right_passage_may_stand_anywhere(cases: list[examples.Case]) -> None:
    threes = [q.cited for c in cases if len(c.passages) == 3 for q in c.questions if q.cited]
    assert {1, 2, 3} == set(threes)
    assert max(threes.count(n) for n in (1, 2, 3)) < 0.5 * len(threes)


def test_the_same_seed_makes_the_same_cases(paragraphs: list[examples.Paragraph]) -> None:
    def once() -> str:
        maker, dice = examples.Maker(paragraphs), random.Random(9)
        made = [maker.case(p, dice) for p in paragraphs]
        return examples.digest([*(c for c in made if c), company.case(dice)])

    assert once() == once()


def test_nothing_that_is_measured_is_learned(paragraphs: list[examples.Paragraph]) -> None:
    by_title = examples.Paragraph("青屋敷", "まったく別の文である。", ())
    shared = next(p.text for p in paragraphs if p.article == "赤屋敷")
    by_text = examples.Paragraph("別の題", f"前置き。{shared.replace('(', '（')}後書き。", ())
    kept = {p.article for p in examples.without(paragraphs, [by_title, by_text])}
    assert kept == {"白屋敷", "黒屋敷", "金屋敷", "銀屋敷", "紅屋敷", "紫屋敷"}


def test_jsquad_paragraphs_lose_their_title(tmp_path: Path) -> None:
    text = "梅雨 [SEP] 梅雨は5月から7月の雨である。"
    asked = {"question": "いつ?", "answers": [{"text": "5月", "answer_start": text.index("5月")}]}
    found = {"data": [{"title": "梅雨", "paragraphs": [{"context": text, "qas": [asked]}]}]}
    path = tmp_path / "valid.json"
    path.write_text(json.dumps(found, ensure_ascii=False), "utf-8")
    [p] = examples.read([path])
    assert (p.article, p.text[p.asked[0].start :][:2]) == ("梅雨", "5月")


# --- tokens and rows -------------------------------------------------------------


@pytest.fixture
def words() -> tokens.Tokens:
    pieces = ["<pad>", "<eos>", "<bos>", "\n\n", "蔵", "の", "蔵の", "\u2581"]
    pieces += [f"<0x{n:02X}>" for n in range(256)]
    scores = [0.0, 0.0, 0.0, 0.0, -3.0, -2.0, -1.0, -4.0] + [-9.0] * 256
    return tokens.Tokens(pieces, {p: n for n, p in enumerate(pieces)}, scores, re.compile("\n\n"))


def test_pieces_join_unknown_letters_become_bytes(words: tokens.Tokens) -> None:
    ids = words.encode("蔵の 鍵\n\n蔵")
    known, *rest = [words.pieces[i] for i in ids]
    assert known == "蔵の"
    assert rest == ["\u2581", "<0xE9>", "<0x8D>", "<0xB5>", "\n\n", "蔵"]
    assert words.decode(ids) == "蔵の 鍵\n\n蔵"


SHAPE = gemma.Shape(blocks=7, width=8, heads=2, kv_heads=1, head=4, window=5, theta=1e6)


def weights(words: int) -> dict[str, torch.Tensor]:
    """Of a model of SHAPE, drawn by chance."""
    sizes = {
        "attn_q": (8, 8), "attn_k": (4, 8), "attn_v": (4, 8), "attn_output": (8, 8),
        "ffn_gate": (16, 8), "ffn_up": (16, 8), "ffn_down": (8, 16),
    }  # fmt: skip
    torch.manual_seed(0)
    made = {"token_embd": torch.randn(words, 8), "output_norm": torch.ones(8)}
    for n in range(SHAPE.blocks):
        made |= {f"blk.{n}.{name}": torch.randn(size) for name, size in sizes.items()}
        made |= {f"blk.{n}.{name}": torch.ones(8) for name in gemma.NORMS}
        made |= {f"blk.{n}.{name}": torch.ones(4) for name in gemma.HEAD_NORMS}
    return made


def test_questions_in_one_row_cost_what_they_cost_alone() -> None:
    model = gemma.Gemma(SHAPE, weights(20), rank=2, alpha=4.0)
    model.start_lora(0)
    beginning, branches = [2, 5, 6, 7, 8, 9], [([3, 4], [10, 11, 1]), ([12], [13, 1])]
    together = model.loss([gemma.row(beginning, branches)])
    alone = sum(model.loss([gemma.row(beginning, [b])]) for b in branches)
    plain = gemma.row([*beginning, *branches[0][0]], [([10], [11])])
    assert torch.allclose(together, alone, rtol=1e-4)
    other = gemma.row([2, 9, 5], [([7], [12, 1])])
    both = model.loss([gemma.row(beginning, branches), other])
    assert torch.allclose(both, together + model.loss([other]), rtol=1e-4)
    assert plain.wanted.tolist() == [11] and plain.places.tolist() == list(range(9))


@pytest.fixture
def base(words: tokens.Tokens, tmp_path: Path) -> Path:
    """A GGUF file of SHAPE with the words' vocabulary."""
    writer = gguf.GGUFWriter(tmp_path / "base.gguf", "gemma3")
    for name, value in (
        ("block_count", SHAPE.blocks), ("embedding_length", SHAPE.width),
        ("attention.head_count", SHAPE.heads), ("attention.head_count_kv", SHAPE.kv_heads),
        ("attention.key_length", SHAPE.head), ("attention.sliding_window", SHAPE.window),
    ):  # fmt: skip
        writer.add_uint32(f"gemma3.{name}", value)
    writer.add_float32("gemma3.rope.freq_base", SHAPE.theta)
    writer.add_token_list(words.pieces)
    writer.add_token_scores(list(words.scores))
    writer.add_token_types([4 if piece == "\n\n" else 1 for piece in words.pieces])
    for name, part in weights(len(words.pieces)).items():
        writer.add_tensor(f"{name}.weight", part.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "base.gguf"


@pytest.mark.long
def test_what_is_packed_is_what_is_asked_and_is_learned(
    words: tokens.Tokens, base: Path, tmp_path: Path
) -> None:
    group = groups.Group("蔵の年は", ("蔵\n蔵の鍵は銅", "の\n蔵は四年"), 1, (4, 6))
    shown = tuple(examples.passage("蔵", "", text) for text in ("蔵は3年", "の鍵"))
    asked = tuple(examples.Question(*q) for q in (("何年", "3年", 1), ("誰の", "", 0)))
    long = examples.Case((examples.passage("蔵", "", "鍵" * 400),), asked)
    some = [answer_adapter.of_group(group), long, examples.Case(shown, asked)]
    assert some[0].questions[0].target == "四年[2]"
    out = tmp_path / "packed"
    answer_adapter.pack(iter(some), 2, base, out, seed=1)
    facts = json.loads((out / "facts.json").read_text("utf-8"))
    assert (facts["cases"], facts["questions"], facts["refusals"]) == (2, 3, 1)

    rows = answer_adapter.packed(out)
    whole, cut = (gemma.load(path, 2, 4.0).weights for path in (base, out / "model.gguf"))
    assert len(cut["token_embd"]) < len(whole["token_embd"])
    assert all(torch.equal(cut[n], part) for n, part in whole.items() if n != "token_embd")
    for row, case in zip(rows, (some[0], some[2]), strict=True):
        plain = gemma.row(*answer_adapter.tokenised(case, words))
        for packed, there in ((row.tokens, plain.tokens), (row.wanted, plain.wanted)):
            assert torch.equal(cut["token_embd"][packed], whole["token_embd"][there])
        assert torch.equal(row.places, plain.places) and torch.equal(row.asked, plain.asked)

    (tmp_path / "plan.json").write_text(json.dumps(facts), "utf-8")
    for steps in (5, 60):  # stopped, and started again
        plan = answer_adapter.Plan(steps=steps, groups_per_step=2, rate=3e-2, warmup=0.01)
        model = gemma.load(out / "model.gguf", answer_adapter.RANK, answer_adapter.ALPHA)
        assert answer_adapter.train(model, rows, plan, tmp_path, tmp_path / "stop") == steps
    log = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 61))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


# --- measuring -------------------------------------------------------------------


def test_figures_tell_right_from_wrong(paragraphs: list[examples.Paragraph]) -> None:
    asked = evaluate.items(paragraphs, answerable=8, unanswerable=4, shown=3, seed=1)
    assert [bool(i.right) for i in asked].count(True) == 8
    by_question = {prompt.build(i.question, i.passages).plain(): i for i in asked}

    def knows(text: str) -> str:
        item = by_question[text]
        return f"{item.answers[0]}[{item.right}]" if item.right else prompt.REFUSAL

    best, _ = evaluate.score(asked, knows)
    assert (best.exact, best.f1, best.right_passage, best.refused_rightly) == (1, 1, 1, 1)
    assert best.refused_wrongly == 0
    shy, _ = evaluate.score(asked, lambda text: prompt.REFUSAL)
    assert (shy.exact, shy.right_passage, shy.refused_wrongly, shy.refused_rightly) == (0, 0, 1, 1)
    for item in asked:
        held = [n for n, p in enumerate(item.passages, 1) if item.answers[0] in p.text]
        assert held == ([item.right] if item.right else [])


def test_character_f1_counts_letters_once() -> None:
    assert evaluate.character_f1("一万円", "一万円") == 1
    assert evaluate.character_f1("「一万円」", "一万円") == 1
    assert evaluate.character_f1("円円円", "一万円") == pytest.approx(1 / 3)
    assert evaluate.character_f1("", "一万円") == 0


# --- the adapter in the repository -----------------------------------------------


def test_the_adapter_is_the_one_its_card_describes() -> None:
    assert hashlib.sha256(ADAPTER.read_bytes()).hexdigest() == CARD["sha256"]
    assert ADAPTER.stat().st_size == CARD["size_bytes"] < 16_000_000
    assert CARD["sha256"] in ADAPTER.with_suffix(".md").read_text("utf-8")
    assert {"base", "data_sha256", "hardware", "loss", "plan", "reached"} <= set(CARD)


def test_no_card_names_a_place_on_the_machine_it_was_made_on() -> None:
    for path in (ADAPTER.with_suffix(".json"), ADAPTER.with_suffix(".md")):
        assert not re.search(r"(?<![\w.])/(?:work|tmp|root|home|mnt)\b", path.read_text("utf-8"))


def test_the_adapter_has_both_halves_of_every_linear_layer() -> None:
    reader = gguf.GGUFReader(ADAPTER)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["general.architecture"] == "gemma3"
    assert fields["adapter.lora.alpha"] == CARD["alpha"]
    width, heads, keys, inner, rank = 640, 1024, 256, 2048, CARD["rank"]
    sizes = {
        "attn_q": (width, heads), "attn_k": (width, keys), "attn_v": (width, keys),
        "attn_output": (heads, width), "ffn_gate": (width, inner), "ffn_up": (width, inner),
        "ffn_down": (inner, width),
    }  # fmt: skip
    expected = {}
    for n in range(18):
        for name, (into, out) in sizes.items():
            expected[f"blk.{n}.{name}.weight.lora_a"] = (into, rank)
            expected[f"blk.{n}.{name}.weight.lora_b"] = (rank, out)
    # GGUF names the fastest dimension first
    assert {t.name: tuple(int(n) for n in t.shape) for t in reader.tensors} == expected
