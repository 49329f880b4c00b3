"""How well and how fast pages that are pictures are read.

    python -m tests.quality.ocr [--page docs/en/ocr.md] [--samples tests/ocr/pages]

Pages are drawn here, with the fonts of Debian's `fonts-noto-cjk`, and spoiled the way a scanner
spoils them. CER is the edit distance to what was drawn, blanks aside, after NFKC, by the length of
what was drawn. Seconds are those that one core computes for a page.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from appliance.ocr import layout
from appliance.ocr.engine import Engine, Picture
from tests.quality import ocr_tables

FONTS = Path("/usr/share/fonts/opentype/noto")
SERIF, SANS = FONTS / "NotoSerifCJK-Regular.ttc", FONTS / "NotoSansCJK-Regular.ttc"
MARK = "<!-- figures -->"

RULES = """出張旅費規程
第1条（目的）この規程は、株式会社蔵商事（以下「会社」という。）の役員及び従業員が業務のため出張する場合の旅費の支給に関する事項を定めることを目的とする。
第2条（適用範囲）この規程は、就業規則第3条に定める従業員に適用する。ただし、嘱託、臨時従業員及びパートタイマーについては、別に定める。
第3条（旅費の種類）旅費の種類は、交通費、日当、宿泊費、食卓料及び支度料とする。出張の区分は、日帰り出張、宿泊出張、海外出張の3種とし、往復100km以上のものを出張という。
第4条（日当）国内出張の日当は、部長以上4,500円、課長3,800円、一般社員3,000円とする。移動のみの日は半額を支給する。消費税（10%）は会社が負担する。
第5条（宿泊費）宿泊費は、東京23区、大阪市、名古屋市及び福岡市では1泊あたり12,000円、その他の地域では9,800円を上限として実費を支給する。領収書を添付しなければならない。
第6条（精算）出張者は、帰着後5営業日以内に「旅費精算書」（様式第8号）を作成し、所属長の承認を経て経理部へ提出する。期限を過ぎた場合は理由書を添える。
第7条（タクシー）タクシーの利用は、公共交通機関がない場合、深夜（22時以降）又は荷物が多い場合に限り認める。利用区間と理由を必ず記載すること。
第8条（航空機）片道500kmを超える区間では航空機を利用できる。座席はエコノミークラスとし、早割等の割引運賃を優先する。マイルは個人に帰属しない。
第9条（事故）出張中に災害、疾病その他やむを得ない事由により予定を変更したときは、速やかに上司へ連絡し、その指示を受けなければならない。
第10条（海外出張）海外出張の日当及び宿泊費は、別表第2による。渡航手続に要する費用（査証、予防注射、保険料）は、会社が実費を負担する。為替は出発日の公示相場とする。
第11条（単身赴任）単身赴任者が月1回帰省する場合の往復運賃は、これを支給する。ただし、年12回を超えることはできない。
附則　この規程は、令和6年4月1日から施行する。改正、令和7年10月1日。お問い合わせは総務部（内線2345、soumu@example.co.jp）まで。"""
LETTER = """設備点検のお知らせ
平素より格別のご高配を賜り、厚く御礼申し上げます。さて、弊社サーバー室の無停電電源装置（UPS、型番 KX-3200R）について、下記のとおり定期点検を実施いたします。
日時：2026年12月5日（土）午前9時30分から午後3時まで
場所：横浜市港北区新横浜2丁目14番8号　蔵ビル3階
作業中はネットワーク（VLAN 120、192.168.10.0/24）が最大15分間停止します。バックアップは前日の23時までに完了させてください。
ご不明な点は、情報システム部ヘルプデスク（TEL 045-123-4567）までお問い合わせください。
ファイルサーバー、メールシステム、グループウェアの利用は、点検の終了をもって再開いたします。
渡邊髙明、齋藤さゆり、﨑山幸榮が担当いたします。議事録はワークフローの「承認済み」フォルダーをご参照ください。"""


@dataclass(frozen=True)
class Case:
    name: str
    picture: Picture
    text: str


def cases() -> Iterator[Case]:
    for text in (RULES, LETTER):
        for font in (SERIF, SANS):
            clean = {dpi: lying(text, font, dpi) for dpi in (300, 200)}
            for dpi, page in clean.items():
                yield Case(f"{dpi} dpi, clean", page, text)
                yield Case(f"{dpi} dpi, noisy", spoiled(page), text)
            yield Case("200 dpi, noisy, skewed by 2°", spoiled(skewed(clean[200], 2.0)), text)
            yield Case("200 dpi, turned by 90°", np.ascontiguousarray(np.rot90(clean[200])), text)
            yield Case("200 dpi, upside down", np.ascontiguousarray(clean[200][::-1, ::-1]), text)
    upright = str.maketrans("0123456789%,", "〇一二三四五六七八九％、")
    text = RULES.translate(upright).replace("km", "キロ").replace("soumu@example.co.jp", "電話")
    for font in (SERIF, SANS):
        page = standing(text, font, 300)
        yield Case("縦書き, 300 dpi, clean", page, text)
        yield Case("縦書き, 300 dpi, noisy, skewed by 1°", spoiled(skewed(page, 1.0)), text)


def lying(text: str, font: Path, dpi: int, size: tuple[float, float] = (8.27, 11.69)) -> Picture:
    """Lines of forty letters of 10.5 points, from left to right."""
    image, draw, face = _paper(font, dpi, size)
    pitch = int(10.5 * dpi / 72)
    across = int((size[0] - 1.9) * dpi / pitch)
    for n, line in enumerate(_wrapped(text, across)):
        draw.text((int(0.95 * dpi), int(1.0 * dpi) + int(n * 1.7 * pitch)), line, 0, face)
    return _bgr(image)


def standing(text: str, font: Path, dpi: int, size: tuple[float, float] = (8.27, 11.69)) -> Picture:
    """縦書き: lines from right to left."""
    image, draw, face = _paper(font, dpi, size)
    pitch = int(10.5 * dpi / 72)
    down = int((size[1] - 2.0) * dpi / pitch)
    for n, line in enumerate(_wrapped(text, down)):
        left = int((size[0] - 1.1) * dpi) - int(n * 1.8 * pitch)
        draw.text((left, int(1.0 * dpi)), line, 0, face, direction="ttb")
    return _bgr(image)


def skewed(page: Picture, degrees: float) -> Picture:
    height, width = page.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(page, turn, (width, height), borderValue=(255, 255, 255)))


def spoiled(page: Picture) -> Picture:
    """Blurred, greyish, grainy, and through JPEG."""
    dice = np.random.default_rng(11)
    soft = cv2.GaussianBlur(page, (0, 0), 1.0).astype(np.float32) * 0.85 + 20
    soft += dice.normal(0, 18, soft.shape[:2])[..., None]
    _, packed = cv2.imencode(".jpg", soft.clip(0, 255).astype(np.uint8), [1, 60])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))


SPOILT: dict[str, Callable[[Picture], Picture]] = {
    "clean": lambda page: page,
    "noisy, skewed by 2°": lambda page: spoiled(skewed(page, 2.0)),
}


def cer(wanted: str, got: str) -> float:
    a, b = _plain(wanted), _plain(got)
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last = [i]
        for j, y in enumerate(b, 1):
            last.append(min(row[j] + 1, last[-1] + 1, row[j - 1] + (x != y)))
        row = last
    return row[-1] / max(1, len(a))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", type=Path, help="write the figures into this page")
    parser.add_argument("--samples", type=Path, help="draw the pictures of the tests, and end")
    given = parser.parse_args()
    if given.samples:
        samples(given.samples)
        return
    rows: dict[str, list[tuple[float, float]]] = {}
    engine = Engine()
    layout.read(engine, lying("起動", SANS, 200))
    for case in cases():
        began = time.process_time()
        read = layout.read(engine, case.picture)
        spent = time.process_time() - began
        error = cer(case.text, "".join(line.text for line in read.lines))
        rows.setdefault(case.name, []).append((error, spent))
        print(f"{case.name}: CER {error:.2%}, {spent:.1f} s", flush=True)
    tables = list(_tables(engine))
    memory = _peak()
    table = "\n".join(_table(rows, tables, memory))
    print(table)
    if given.page:
        before, _, after = given.page.read_text("utf-8").split(MARK)
        given.page.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}", "utf-8")


def samples(folder: Path) -> None:
    """Small pages for the tests: the machine that runs them may have no Japanese font."""
    folder.mkdir(parents=True, exist_ok=True)
    few = "\n".join(RULES.splitlines()[:3])
    size = (5.4, 3.2)
    upright = lying(few, SERIF, 150, size)
    _grey(upright).save(folder / "横書き.png", optimize=True)
    _grey(skewed(upright, 2.0)).transpose(Image.Transpose.ROTATE_90).save(
        folder / "横倒し.png", optimize=True
    )
    _grey(standing(few.translate(str.maketrans("123", "一二三")), SERIF, 200, (3.2, 5.4))).save(
        folder / "縦書き.png", optimize=True
    )
    blank = Image.new("L", (400, 300), 255)
    title = _grey(lying("出張旅費規程", SANS, 150, (4.0, 2.2)))
    title.save(
        folder / "二ページ.tif", save_all=True, append_images=[blank], compression="tiff_lzw"
    )
    title.save(folder / "二ページ.pdf", save_all=True, append_images=[blank], resolution=150)
    for name, which, degrees in (("表", "merged heads", 0.0), ("申請書", "form", 1.5)):
        table = next(d for d in ocr_tables.DRAWN if d.name == which)
        page = ocr_tables.page(table, 150, SANS, (7.2, 4.1))
        page = skewed(page, degrees) if degrees else page
        colours = Image.fromarray(np.ascontiguousarray(page[:, :, ::-1])).quantize(32)
        colours.save(folder / f"{name}.png", optimize=True)


def _tables(engine: Engine) -> Iterator[tuple[str, list[int]]]:
    """Of each drawn table: how many cells it has, and how many came out in their place, by class."""
    for drawn, page in ocr_tables.pages(200, SANS):
        right, count = [], 0
        for spoil in SPOILT.values():
            lines = [line.text for line in layout.read(engine, spoil(page)).lines]
            found, count = ocr_tables.placed(drawn.wanted, lines)
            right.append(found)
        print(f"{drawn.name}: {right} of {count}", flush=True)
        yield drawn.name, [count, *right]


def _table(
    rows: dict[str, list[tuple[float, float]]], tables: list[tuple[str, list[int]]], memory: int
) -> Iterator[str]:
    cpu = next(
        (
            li.split(": ")[1]
            for li in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in li
        ),
        platform.machine(),
    )
    load = Path("/proc/loadavg").read_text().split()[0]
    yield f"{datetime.now(UTC):%Y-%m-%d}, {cpu}, load {load}; `python -m tests.quality.ocr`\n"
    yield "| page (A4) | pages | CER | worst | seconds of one core |"
    yield "|---|---|---|---|---|"
    for name, found in rows.items():
        errors, seconds = zip(*found, strict=True)
        yield (
            f"| {name} | {len(found)} | {np.mean(errors):.2%} | {max(errors):.2%} "
            f"| {np.mean(seconds):.1f} |"
        )
    yield f"\n| ruled table (A4, 200 dpi): cells in their row and column | cells | {' | '.join(SPOILT)} |"
    yield f"|---|---|{'---|' * len(SPOILT)}"
    every = [sum(found[n] for _, found in tables) for n in range(len(SPOILT) + 1)]
    for name, (count, *right) in [*tables, ("all", every)]:
        yield f"| {name} | {count} | {' | '.join(f'{n / count:.1%}' for n in right)} |"
    yield f"\nMost memory of one page's child: {memory / 1e6:,.0f} MB."


def _peak() -> int:
    """Of the largest page, alone in a process that we may ask."""
    file = _saved(lying(RULES, SERIF, 300), tempfile.gettempdir())
    code = (
        "import re; from appliance.ocr import confined; work = confined.prepare();"
        f"work({{'page': 1, 'pixels': 10**9}}, open({str(file)!r}, 'rb'), b'', print);"
        # not `ru_maxrss`, in which what started it counts
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    said = subprocess.check_output([sys.executable, "-c", code])
    return int(said) * 1024


def _paper(
    font: Path, dpi: int, size: tuple[float, float]
) -> tuple[Image.Image, ImageDraw.ImageDraw, ImageFont.FreeTypeFont]:
    image = Image.new("L", (int(size[0] * dpi), int(size[1] * dpi)), 255)
    return image, ImageDraw.Draw(image), ImageFont.truetype(str(font), int(10.5 * dpi / 72))


def _wrapped(text: str, width: int) -> Iterator[str]:
    for paragraph in text.splitlines():
        yield from (paragraph[n : n + width] for n in range(0, len(paragraph), width))


def _bgr(image: Image.Image) -> Picture:
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def _grey(page: Picture) -> Image.Image:
    return Image.fromarray(page[:, :, 0]).quantize(16).convert("L")


def _saved(page: Picture, folder: str) -> Path:
    path = Path(folder) / "page.png"
    Image.fromarray(np.ascontiguousarray(page[:, :, ::-1])).save(path)
    return path


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


if __name__ == "__main__":
    main()
