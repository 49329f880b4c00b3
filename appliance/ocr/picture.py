"""A page of a file as a picture, upright as its file says, no larger than it needs to be."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import pypdfium2
from PIL import Image, ImageOps

from appliance.errors import TooLarge, Unreadable
from appliance.formats import images, kinds
from appliance.ocr.engine import Picture

_DPI, _POINTS = 300, 72
_PIXELS = 25_000_000  # of a page as it is read: A3 at 300 dpi has 17 million


def page(stream: BinaryIO, number: int, most_pixels: int) -> tuple[Picture, float]:
    """The page, and how many pixels of it are one point (of a PDF) or one pixel (of an image).

    Raises Unreadable, TooLarge.
    """
    if kinds.identify(stream) == kinds.PDF:
        return _of_pdf(stream, number)
    return _of_image(stream, number, most_pixels)


def _of_pdf(stream: BinaryIO, number: int) -> tuple[Picture, float]:
    stream.seek(0)
    try:
        pdf = pypdfium2.PdfDocument(stream.read())
        shown = pdf[number - 1]
        width, height = shown.get_size()
        fits = (_PIXELS / max(1.0, width * height)) ** 0.5
        scale = min(_DPI / _POINTS, fits)
        bitmap = shown.render(scale=scale, rev_byteorder=False, may_draw_forms=True)
        return np.ascontiguousarray(bitmap.to_numpy()[:, :, :3]), scale
    except (pypdfium2.PdfiumError, IndexError) as error:
        raise Unreadable(f"ページを描けません ({error})") from None


def _of_image(stream: BinaryIO, number: int, most_pixels: int) -> tuple[Picture, float]:
    with images.opened(stream) as image:
        try:
            image.seek(number - 1)
            width, height = image.size
            if width * height > most_pixels:
                raise TooLarge(f"画像が大きすぎます ({width:,} × {height:,} 画素)")
            image.draft("RGB", image.size)
            upright = ImageOps.exif_transpose(image) or image
            fits = min(1.0, (_PIXELS / max(1, width * height)) ** 0.5)
            if "A" in upright.getbands() or "transparency" in upright.info:
                paper = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(paper, upright.convert("RGBA"))
            upright = _as_rgb(upright)
            if fits < 1.0:
                small = (max(1, int(upright.width * fits)), max(1, int(upright.height * fits)))
                upright = upright.resize(small, Image.Resampling.BOX)
            return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1]), fits
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise Unreadable(f"画像が壊れています ({error})") from None


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits of grey
        grey = np.asarray(image, np.float32)
        top = 65_535.0 if grey.max(initial=0) > 255 else 255.0
        image = Image.fromarray((grey / top * 255).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
