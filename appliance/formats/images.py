"""PNG, JPEG and TIFF (with all its pages): what is read of them (OCR) is their text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

# the plugins too: a child can import nothing
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from appliance.errors import Unreadable
from appliance.formats.draft import Draft
from appliance.text import readings
from appliance.types import Document, Page, Readings

_PLUGINS = (PngImagePlugin, JpegImagePlugin, TiffImagePlugin)
_KINDS = ("PNG", "JPEG", "TIFF")
_PAGES = 2_000

Image.preinit()
Image.MAX_IMAGE_PIXELS = None  # who decodes pixels has a limit of its own, and says so


def parse(stream: BinaryIO, read: Readings | None = None) -> Document:
    if read is None:
        raise Unreadable("画像です (文字の読み取り (OCR) が使われない設定です)")
    draft = Draft()
    pages, problems = [], []
    with opened(stream) as image:
        count = min(getattr(image, "n_frames", 1), _PAGES)
        if getattr(image, "n_frames", 1) > _PAGES:
            problems.append(
                f"{_PAGES:,} ページを超える画像です。はじめの {_PAGES:,} ページだけ読みます"
            )
    for number in range(1, count + 1):
        page = read.get(number)
        pages.append(Page(number, "scanned", read="ocr" if page else "none"))
        if page and page.lines:
            draft.mark(readings.label(number, page), "page", number)
            for line in page.lines:
                draft.line(line.text)
    problems += readings.notes(read)
    return replace(draft.document(), problems=tuple(problems), pages=tuple(pages))


@contextmanager
def opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """An image, not yet decoded. Raises Unreadable."""
    stream.seek(0)
    try:
        with Image.open(stream, formats=_KINDS) as image:
            yield image
    except UnidentifiedImageError:  # says where in memory it was
        raise Unreadable("画像が壊れています") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unreadable(f"画像が壊れています ({error})") from None
