"""What a stream lets through: whole characters, nothing from a stop string on."""

from __future__ import annotations

import pytest

from appliance.inference.engine import Text


def stream(data: bytes, stop: tuple[str, ...], step: int) -> tuple[list[str], bool]:
    text, out = Text(stop), []
    for at in range(0, len(data), step):
        out += text.add(data[at : at + step])
        if text.stopped:
            return out, True
    return out + list(text.flush()), False


@pytest.mark.parametrize("step", range(1, 9))
def test_no_character_is_ever_split(step: int) -> None:
    words = "宿泊費は一泊12,000円😀です。"
    pieces, _ = stream(words.encode(), ("\n\n",), step)
    assert "".join(pieces) == words
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.parametrize("step", range(1, 9))
def test_a_stop_string_is_found_across_pieces(step: int) -> None:
    pieces, stopped = stream("一万円[1]\n質問: 次は".encode(), ("\n\n", "\n質問:"), step)
    assert ("".join(pieces), stopped) == ("一万円[1]", True)


def test_what_only_looked_like_a_stop_is_not_lost() -> None:
    assert stream("一万円\n".encode(), ("\n質問:",), 1) == (["一", "万", "円", "\n"], False)


def test_bytes_that_are_no_character_are_shown_as_such() -> None:
    assert "".join(stream(b"\xe5\xae", (), 1)[0]) == "\ufffd"
