"""What is said in Slack, as people see it."""

from __future__ import annotations

import pytest

from connectors.slack_talk import mark, plain, sort


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<@U1> <@U7|hanako> <@U8>", "@伊藤 @hanako @U8"),
        ("<#C1|営業> <!here> <!subteam^S1|@営業部>", "#営業 @here @営業部"),
        ("<https://a.example/?a=1&amp;b=2>", "https://a.example/?a=1&b=2"),
        ("<mailto:a@a.example|a@a.example>", "a@a.example"),
        ("&lt;@U1&gt; 1 &lt; 2", "<@U1> 1 < 2"),
    ],
)
def test_markup_as_people_see_it(text: str, shown: str) -> None:
    assert plain(text, {"U1": "伊藤"}) == shown


def test_what_a_message_is() -> None:
    assert sort({"ts": "1.0"}) == "talk"
    assert sort({"ts": "1.0", "thread_ts": "1.0", "reply_count": 1}) == "thread"
    assert sort({"ts": "1.0", "thread_ts": "1.0", "reply_count": 0}) == "talk", "all were deleted"
    assert sort({"ts": "2.0", "thread_ts": "1.0", "subtype": "thread_broadcast"}) == "reply"
    assert sort({"ts": "1.0", "subtype": "channel_topic"}) == ""


def test_a_thread_is_marked_by_all_that_its_listing_tells() -> None:
    said: dict[str, object] = {"ts": "1.0", "text": "質問", "reply_count": 1, "latest_reply": "2.0"}
    others: list[dict[str, object]] = [
        {},
        {"text": "別"},
        {"reply_count": 2},
        {"latest_reply": "3.0"},
        {"edited": {"ts": "4.0"}},
    ]
    assert len({mark(said | one) for one in others}) == 5
