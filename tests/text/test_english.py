"""Questions in English, beside names and codes that are not."""

from __future__ import annotations

import pytest

from appliance.text import english


@pytest.mark.parametrize(
    ("question", "content"),
    [
        (
            "What is the maximum hotel cost for domestic trips?",
            "maximum hotel cost domestic trips?",
        ),
        ("hotel limit domestic trip?", "hotel limit domestic trip?"),
        ("Who's in charge of KP-2200?", "charge KP-2200?"),
        ("I can’t log in to the VPN", "log VPN"),
        ("what is the IT budget", "IT budget"),
        ("WHO IS IT FOR AND WHY", "WHO IS IT FOR AND WHY"),  # nothing would be left
        ("HOW LONG IS THE WARRANTY", "LONG WARRANTY"),
        ("what about this", "what about this"),
    ],
)
def test_what_holds_it_together_is_left_out(question: str, content: str) -> None:
    assert english.is_asked_in(question)
    assert english.content(question) == content


@pytest.mark.parametrize(
    "question",
    [
        "VPN E-309",
        "KP-2200-A",
        "password",
        "in vitro試験の条件",
        "ISOのAnnex Aとは",
        "12",
        "",
        "？",
    ],
)
def test_names_and_codes_and_japanese_are_not_english(question: str) -> None:
    assert not english.is_asked_in(question)
    assert english.content(question) == question
