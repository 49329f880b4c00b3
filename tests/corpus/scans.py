"""Scans: pages drawn, then turned, specked, stamped and saved as scanners and telephones do."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
import pypdfium2
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.corpus import producers as by
from tests.corpus.paper import Shelf
from tests.corpus.writings import WRITINGS

_FONT = "/usr/share/fonts/opentype/noto/NotoSerifCJK-Bold.ttc"
_RED = (200, 30, 40)


def papers(shelf: Shelf) -> None:
    for n, (w, (ending, dpi, worn)) in enumerate(zip(WRITINGS + WRITINGS[:3], _KINDS, strict=True)):
        style = "body{font-size:15px;line-height:1.5}" + (
            "html{writing-mode:vertical-rl}" if n == 12 else ""
        )
        printed = pypdfium2.PdfDocument(by.chromium(by.page(w, style)))
        rng = random.Random(n)
        pages = [worn(p.render(scale=dpi / 72).to_pil().convert("RGB"), rng) for p in printed]
        shelf.add(
            f"scans/{w.name}.{n:02}.{ending}",
            _saved(pages, ending, dpi),
            "Chromium, Pillow",
            text=w.text,
        )


def skewed(page: Image.Image, rng: random.Random, degrees: float = 1.5) -> Image.Image:
    angle = rng.uniform(degrees / 2, degrees) * rng.choice((-1, 1))
    return page.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")


def specked(page: Image.Image, rng: random.Random, strength: float = 18) -> Image.Image:
    values = np.asarray(page, np.float32)
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, strength, values.shape[:2])
    return Image.fromarray(np.clip(values + noise[..., None], 0, 255).astype(np.uint8))


def stamped(page: Image.Image, rng: random.Random) -> Image.Image:
    """印影: a red seal over the text."""
    side = page.width // 9
    seal = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(seal)
    draw.ellipse((2, 2, side - 3, side - 3), outline=(*_RED, 210), width=max(2, side // 24))
    font = ImageFont.truetype(_FONT, side // 3)
    draw.text((side / 2, side / 2), rng.choice(("蔵前", "北沢", "両角")), (*_RED, 210), font, "mm")
    seal = seal.rotate(rng.uniform(-15, 15))
    out = page.copy()
    out.paste(seal, (page.width * 6 // 10, page.height // 12), seal)
    return out


def faint(page: Image.Image, rng: random.Random) -> Image.Image:
    """A copy of a copy: pale, blurred, on grey paper."""
    pale = page.filter(ImageFilter.GaussianBlur(0.7)).point(
        [100 + v * 130 // 255 for v in range(256)] * 3
    )
    return specked(pale, rng, 10)


def shaded(page: Image.Image, rng: random.Random) -> Image.Image:
    """A photograph: light from one side, a little out of the square."""
    width, height = page.size
    lean = rng.uniform(0.01, 0.03)
    data = (0, 0, -lean * width, height, width * (1 + lean), height, width, 0)
    leaned = page.transform(
        page.size, Image.Transform.QUAD, data, Image.Resampling.BICUBIC, fillcolor="white"
    )
    light = np.linspace(1, 0.55, width)[None, :, None]
    return Image.fromarray((np.asarray(leaned, np.float32) * light).astype(np.uint8))


def clean(page: Image.Image, rng: random.Random) -> Image.Image:
    return page


def _each(
    *steps: Callable[[Image.Image, random.Random], Image.Image],
) -> Callable[[Image.Image, random.Random], Image.Image]:
    def worn(page: Image.Image, rng: random.Random) -> Image.Image:
        for step in steps:
            page = step(page, rng)
        return page

    return worn


_KINDS = (
    ("pdf", 150, clean), ("pdf", 150, _each(stamped, skewed)), ("pdf", 100, specked), ("png", 150, clean),
    ("png", 110, _each(stamped, skewed)), ("tiff", 200, clean), ("tiff", 150, _each(skewed, stamped)),
    ("jpg", 150, shaded), ("jpg", 120, faint), ("pdf", 75, clean), ("pdf", 150, faint),
    ("fax.tiff", 200, skewed), ("upright.pdf", 150, specked), ("turned.png", 130, clean), ("jpg", 90, _each(specked, stamped)),
)  # fmt: skip


def _saved(pages: list[Image.Image], ending: str, dpi: int) -> bytes:
    out = io.BytesIO()
    first, *rest = pages
    match ending.rpartition(".")[2]:
        case "pdf":
            first.convert("L").save(
                out,
                "PDF",
                resolution=dpi,
                save_all=True,
                append_images=[p.convert("L") for p in rest],
                quality=60,
                creationDate=0,
                modDate=0,
            )
        case "tiff":
            bits = [
                p.convert("L")
                .point(lambda v: 255 * (v > 150))
                .convert("1", dither=Image.Dither.NONE)
                for p in pages
            ]
            bits[0].save(
                out,
                "TIFF",
                compression="group4",
                dpi=(dpi, dpi),
                save_all=True,
                append_images=bits[1:],
            )
        case "png":
            sheet = first.convert("L").quantize(16)
            sheet = sheet.rotate(90, expand=True) if ending.startswith("turned") else sheet
            sheet.save(out, "PNG", dpi=(dpi, dpi), optimize=True)
        case _:
            first.save(out, "JPEG", quality=55, dpi=(dpi, dpi))
    return out.getvalue()
