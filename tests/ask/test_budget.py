"""Passages are cut to what the model reads, at sentences, and stay the document's own text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.ask import budget, prompt
from appliance.errors import PromptTooLong
from appliance.settings import Settings
from appliance.testing.fakes import ScriptedGenerator
from appliance.types import Passage, Span

SENTENCES = [f"第{n}文は、{'長い' * (n % 5)}説明である。" for n in range(60)]
TEXT = "".join(SENTENCES)
QUESTION = "宿泊費はいくらですか"


def passage(text=TEXT, n=1, hit=None):
    return Passage(
        n,
        f"d{n}",
        "規程",
        f"{n}.txt",
        f"文書{n}",
        "p. 1",
        text,
        50,
        50 + len(text),
        hit=hit and Span(50 + hit[0], 50 + hit[1]),
    )


def fit(passages, question=QUESTION, context=4096, before=(), **settings):
    generator = ScriptedGenerator(context_tokens=context)
    return budget.fit(question, passages, generator, Settings(**settings), before)


def test_what_fits_is_left_alone():
    given = [passage("短い文。", 1), passage("別の文。", 2)]
    assert fit(given) == given


@pytest.mark.parametrize("tokens", [200, 400, 1000, 3000])
def test_the_budget_is_kept_and_filled(tokens):
    shown = fit([passage(n=n) for n in range(1, 6)], prompt_tokens=tokens)
    blocks = [prompt.block(n, p.title, p.label, p.text) for n, p in enumerate(shown, 1)]
    assert tokens * 0.5 <= sum(map(len, blocks)) <= tokens
    for p in shown:
        assert p.text == TEXT[p.start - 50 : p.end - 50]
        assert p.text.startswith("第")
        assert p.text.endswith("。")
        assert p.title.startswith("文書")


def test_the_model_s_own_context_is_a_limit_too():
    shown = fit([passage()], context=700, answer_tokens=256, prompt_tokens=5000)
    whole = prompt.build(QUESTION, shown).plain()
    assert len(whole) <= 700 - 256


def test_the_window_holds_what_was_found():
    at = TEXT.index(SENTENCES[41])
    (shown,) = fit([passage(hit=(at, at + len(SENTENCES[41])))], prompt_tokens=150)
    assert SENTENCES[41] in shown.text


def test_without_a_hit_the_window_answers_the_question():
    (shown,) = fit([passage(TEXT + "宿泊費はいくらか。それは一万円。")], prompt_tokens=150)
    assert "宿泊費" in shown.text


def test_one_endless_sentence_is_cut_between_characters():
    text = "か\u3099" * 3000  # が, written as two
    (shown,) = fit([passage(text)], prompt_tokens=301)
    assert 0 < len(shown.text) <= 301
    assert len(shown.text) % 2 == 0


def test_the_last_are_left_out_when_nothing_of_them_would_be_said():
    shown = fit([passage(n=n) for n in range(1, 6)], prompt_tokens=200)
    assert [p.chunk_id for p in shown] == list(range(1, len(shown) + 1))
    assert 1 <= len(shown) < 5


def test_a_question_longer_than_the_model_is_refused():
    with pytest.raises(PromptTooLong):
        fit([passage()], question="長い" * 3000)


def found(n: int, at: int, size: int = 60) -> Passage:
    """A document in which the chunk at `at` was found."""
    return passage(n=n, hit=(at, at + size))


def test_a_follow_up_begins_as_the_turn_before_did():
    before = fit([found(1, 100), found(2, 300), found(3, 500)], prompt_tokens=500)
    plain = fit([found(3, 510, 40), found(4, 0), found(1, 110, 40)], "日当は？", prompt_tokens=600)
    again = fit(
        [found(3, 510, 40), found(4, 0), found(1, 110, 40)],
        "日当は？",
        before=before,
        prompt_tokens=600,
    )
    assert [p.document_id for p in plain] == ["d3", "d4", "d1"]
    assert [p.document_id for p in again] == ["d1", "d3", "d4"]
    assert again[0].text == before[0].text
    assert again[0].hit == Span(50 + 110, 50 + 150)  # what was found now


def test_what_was_not_found_again_ends_the_common_beginning():
    before = fit([found(1, 100), found(2, 300), found(3, 500)], prompt_tokens=500)
    again = fit([found(3, 510, 40), found(1, 110, 40)], before=before, prompt_tokens=500)
    assert [p.document_id for p in again] == ["d1", "d3"]
    assert again[1].text != before[2].text  # it has its own cut: nothing would be saved


def test_a_cut_that_hides_what_was_found_is_not_used_again():
    before = fit([found(1, 100), found(2, 300)], prompt_tokens=300)
    now = [found(1, 700), found(2, 310, 40)]
    assert fit(now, before=before, prompt_tokens=300) == fit(now, prompt_tokens=300)


def test_a_text_that_has_changed_is_not_used_again():
    before = fit([found(1, 100), found(2, 300)], prompt_tokens=300)
    changed = [replace(p, text=p.text.replace("説明", "記述")) for p in (found(1, 100),)]
    assert fit(changed, before=before, prompt_tokens=300) == fit(changed, prompt_tokens=300)


def test_a_longer_cut_of_the_turn_before_does_not_break_the_budget():
    before = fit([found(1, 100)], prompt_tokens=700)
    now = [found(1, 110, 40), found(2, 310, 40)]
    assert fit(now, before=before, prompt_tokens=300) == fit(now, prompt_tokens=300)
    again = fit(now, before=before, prompt_tokens=1000)
    blocks = [prompt.block(n, p.title, p.label, p.text) for n, p in enumerate(again, 1)]
    assert again[0].text == before[0].text
    assert 700 < sum(map(len, blocks)) <= 1000
