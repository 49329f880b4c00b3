"""What a document says that it is about."""

from __future__ import annotations

import pytest

from appliance.text import purpose


@pytest.mark.parametrize(
    ("beginning", "stated"),
    [
        (
            "国内旅費規程\n第1条（目的）\nこの規程は、社員（以下「社員」という。）が国内に出張する場合の旅費を定める。\n",
            "この規程は、社員（以下「社員」という。）が国内に出張する場合の旅費を定める。",
        ),
        (
            "1. はじめに\n本手順書は、VPN の使い方をまとめたものです。",
            "本手順書は、VPN の使い方をまとめたものです。",
        ),
        ("この取扱説明書は、ポンプを運転する方のためのものです。", "この取扱説明書は、ポンプを運転する方のためのものです。"),
        # what it is not about says nothing of it
        ("この規程は、海外の出張には適用しない。\nこの規程は、国内の旅費を定める。", "この規程は、国内の旅費を定める。"),
        ("本資料は機密情報を含みます。転載を禁じます。", "本資料は機密情報を含みます。"),
        ("海外出張は別に定める。", ""),
        ("この規程に違反した者は、懲戒する。", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_sentence_that_says_so(beginning: str, stated: str) -> None:
    assert purpose.stated(beginning) == stated
