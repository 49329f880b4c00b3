"""Papers of plain text in every format that Kura reads."""

from __future__ import annotations

import codecs
import io
import json
import tarfile
import zipfile
from email.message import EmailMessage
from email.policy import SMTP

from tests.corpus import producers as by
from tests.corpus.paper import Shelf
from tests.corpus.writings import WRITINGS, Writing, writing

ENCODINGS = {
    "utf-8": "utf-8", "utf-8-sig": "utf-8-sig", "cp932": "cp932", "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be",
}  # fmt: skip
_STAMP = (2026, 4, 1, 0, 0, 0)


def papers(shelf: Shelf) -> None:
    _office(shelf)
    _slides(shelf)
    _pdf(shelf)
    _text(shelf)
    _mail(shelf)
    _packed(shelf)


def _add(shelf: Shelf, w: Writing, ending: str, data: bytes, producer: str) -> None:
    shelf.add(f"plain/{w.name}.{ending}", data, producer, text=w.text)


def _office(shelf: Shelf) -> None:
    made = {f"{w.name}.docx": by.word(w) for w in WRITINGS}
    for w in WRITINGS[:5]:
        _add(shelf, w, "docx", made[f"{w.name}.docx"], "python-docx")
    for ending, chosen in (
        ("doc", WRITINGS[:5]), ("odt", WRITINGS[3:7]), ("rtf", WRITINGS[5:9]), ("epub", WRITINGS[8:10]),
        ("docx:MS Word 2007 XML", WRITINGS[9:11]),
    ):  # fmt: skip
        files = {f"{w.name}.docx": made[f"{w.name}.docx"] for w in chosen}
        for name, data in by.soffice(files, ending).items():
            _add(shelf, writing(name), ending.partition(":")[0], data, by.LIBREOFFICE)


def _slides(shelf: Shelf) -> None:
    chosen = [writing(n) for n in ("営業月報", "防災計画", "展示会企画")]
    made = {f"{w.name}.pptx": by.slides(w) for w in chosen}
    for w in chosen:
        _add(shelf, w, "pptx", made[f"{w.name}.pptx"], "python-pptx")
    for ending, some in (("ppt", list(made)[2:]), ("odp", list(made)[1:])):
        for name, data in by.soffice({n: made[n] for n in some}, ending).items():
            _add(shelf, writing(name), ending, data, by.LIBREOFFICE)
    for name, data in by.soffice(dict(list(made.items())[:1]), "pdf").items():
        _add(shelf, writing(name), "slides.pdf", data, by.LIBREOFFICE)


def _pdf(shelf: Shelf) -> None:
    chosen = [writing(n) for n in ("車両管理規程", "取引基本契約書", "輸出管理要領", "社内報")]
    pdfs = by.soffice({f"{w.name}.docx": by.word(w) for w in chosen}, "pdf")
    for name, data in pdfs.items():
        _add(shelf, writing(name), "writer.pdf", data, by.LIBREOFFICE)
    for name in list(pdfs)[:2]:
        _add(shelf, writing(name), "gs.pdf", by.ghostscript(pdfs[name]), by.GHOSTSCRIPT)
    for w in WRITINGS[1:4]:
        _add(shelf, w, "drawn.pdf", by.drawn(w), "reportlab")
    for w in WRITINGS[5:8]:
        _add(shelf, w, "print.pdf", by.chromium(by.page(w)), by.CHROMIUM)
    columns = writing("社内報")
    style = "body{column-count:2;column-gap:2em}h1{column-span:all}"
    _add(shelf, columns, "columns.pdf", by.chromium(by.page(columns, style)), by.CHROMIUM)


def _text(shelf: Shelf) -> None:
    for (name, codec), w in zip(ENCODINGS.items(), WRITINGS, strict=False):
        text = w.text.translate({ord("−"): "-", ord("髙"): "高", ord("﨑"): "崎"})
        bom = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
        data = bom.get(codec, b"") + text.replace("\n", "\r\n").encode(codec, "replace")
        said = data.removeprefix(bom.get(codec, b"")).decode(codec)
        shelf.add(f"plain/{w.name}.{name}.txt", data, "Python", text=said)
    for w in WRITINGS[7:9]:
        _add(shelf, w, "md", by.markdown(w).encode(), "Python")
    for w, codec in zip(WRITINGS[9:12], ("utf-8", "cp932", "euc_jp"), strict=True):
        named = by.page(w).replace('charset="utf-8"', f'charset="{codec.replace("_", "-")}"')
        _add(shelf, w, "html", named.encode(codec, "xmlcharrefreplace"), "Python")
    w = writing("新人手順書")
    _add(shelf, w, "ipynb", _notebook(w), "Python")


def _notebook(w: Writing) -> bytes:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [block]}
        for block in by.markdown(w).strip().split("\n\n")
    ]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, ensure_ascii=False, indent=1).encode()


def _mail(shelf: Shelf) -> None:
    for w, charset in zip(WRITINGS[:3], ("utf-8", "iso-2022-jp", "cp932"), strict=True):
        mail = _letter(w.title)
        text = "\n".join(line for _, line in w.headed).replace("−", "-").replace("μ", "μ")
        mail.set_content(text, charset=charset)
        _said(shelf, w, f"{charset}.eml", mail, text)
    w = writing("育児休業案内")
    mail = _letter(w.title)
    text = "\n".join(line for _, line in w.headed)
    mail.set_content(text)
    mail.add_alternative(by.page(w), subtype="html")
    _said(shelf, w, "alternative.eml", mail, text)


def _letter(title: str) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = title
    mail["From"] = "平林 真 <hirabayashi@kuramae.example>"
    mail["To"] = "全社員 <all@kuramae.example>"
    mail["Date"] = "Wed, 01 Apr 2026 09:00:00 +0900"
    return mail


def _said(shelf: Shelf, w: Writing, ending: str, mail: EmailMessage, text: str) -> None:
    if mail.is_multipart():
        mail.set_boundary("kura-boundary")
    # in the order and the words in which a Japanese mail reader shows them
    names = {
        "差出人": mail["From"],
        "宛先": mail["To"],
        "日付": "2026年4月1日 09:00",
        "件名": mail["Subject"],
    }
    head = "\n".join(f"{name}: {said}" for name, said in names.items())
    shelf.add(f"plain/{w.name}.{ending}", mail.as_bytes(), "Python", text=f"{head}\n{text}")


def _packed(shelf: Shelf) -> None:
    """An archive says the names of its files, then what they say."""
    w, other = writing("設備保全メモ"), writing("情報システムFAQ")
    files = {
        f"{w.name}.txt": w.text.encode("cp932", "replace"),
        f"{other.name}.docx": by.word(other),
    }
    text = "\n".join([f"{w.name}.txt", w.text.encode("cp932", "replace").decode("cp932"),
                      f"{other.name}.docx", other.text])  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _STAMP), data)
    shelf.add("plain/資料一式.zip", out.getvalue(), "Python", text=text)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    shelf.add("plain/資料一式.tar.xz", out.getvalue(), "Python", text=text)
    shelf.add("plain/資料一式.lzh", by.lha(files, "lh5", 1), by.JLHA, text=text)
    whole = "\n".join(w.text for w in WRITINGS).encode("cp932", "replace")
    text = "\n".join(["全部/表示.txt", whole.decode("cp932")])
    for method, level in (("lh4", 0), ("lh6", 2), ("lh7", 1)):
        packed = by.lha({"全部/表示.txt": whole}, method, level)
        shelf.add(f"plain/全部.{method}.lzh", packed, by.JLHA, text=text)
