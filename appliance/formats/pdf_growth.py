"""PDFs that grow: forms that draw forms that draw forms, letters that each stand for a book, pages
packed again and again.

PDFium follows both to the end, and nobody can stop it on the way: what a file would come to is
reckoned before, from the streams as they lie in it. What lies in streams of objects, or is encrypted,
is not seen; the limits of the process hold there. What patterns alone draw holds no text, and costs
a page its picture, no more.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.errors import TooLarge

_DRAWN = 200_000  # forms by one form, those in forms too: PDFium takes 1.5 kB for each
_FORM_BYTES = 1_000  # of content weigh as much as a form
_LETTERS = 100  # that one letter may stand for
_DEEP = 40  # PDFium goes no deeper
_DICTIONARY = 4_000  # bytes, in which a stream says what it is
_HEAD = 4_000
_STREAM_BYTES, _ALL_BYTES = 16_000_000, 100_000_000  # unpacked: of a larger one the beginning
_CONTENT_BYTES = 100_000_000  # PDFium takes two for each
_MEASURED_BYTES = 1_000_000_000  # unpacked only to see how large it is
_BLOCK = 1 << 20
_RATIO = 1_032  # Flate packs no tighter
_OBJECT = re.compile(rb"(\d{1,10})\s{1,9}\d{1,5}\s{1,9}obj\b")
_FLATE = re.compile(rb"/Filter\s{0,9}(?:/FlateDecode|\[((?:\s{0,9}/FlateDecode){1,20})\s{0,9}\])")
_IMAGE = re.compile(rb"/Subtype\s{0,9}/Image\b")
_FORM = re.compile(rb"/Subtype\s{0,9}/Form\b")
_DRAWS = re.compile(rb"/([^\s/<>()\[\]{}%]{1,100})\s{1,9}Do\b")
_TABLE = re.compile(rb"/XObject\s{0,9}(?:<<([^<>]{0,100000})>>|(\d{1,10})\s{1,9}\d{1,20}\s{1,9}R)")
_NAMED = re.compile(rb"/([^\s/<>()\[\]{}%]{1,100})\s{1,9}(\d{1,10})\s{1,9}\d{1,20}\s{1,9}R")
_RESOURCES = re.compile(rb"/Resources\s{1,9}(\d{1,10})\s{1,9}\d{1,20}\s{1,9}R")
_STANDS_FOR = re.compile(rb"<[0-9A-Fa-f\s]{%d,}" % (4 * _LETTERS + 1))


Names = dict[bytes, int]  # of what may be drawn: its object


@dataclass(frozen=True, slots=True)
class _Form:
    size: int
    calls: Counter[bytes]  # what it draws, and how often
    names: Names | None  # None: those of whoever draws it


def refuse(data: bytes) -> None:
    """Raises TooLarge."""
    budget, measured = _ALL_BYTES, _MEASURED_BYTES
    forms: dict[int, _Form] = {}
    objects: dict[int, bytes] = {}
    seen = set[int]()
    for number, said, body in streams(data):
        if budget < 0:
            return
        seen.add(number)
        layers = _layers(said)
        if not layers and b"/Filter" in said:
            continue
        if len(body) * _RATIO**layers > _CONTENT_BYTES and not _IMAGE.search(said):
            size = _size(body, layers, min(_CONTENT_BYTES + 1, measured))
            measured -= size
            if size > _CONTENT_BYTES:
                raise TooLarge(
                    f"ページの内容などが展開後 {_CONTENT_BYTES // 1_000_000:,} MB を超えます。PDF を分けるか、作り直してください"
                )
        is_form = bool(_FORM.search(said))
        content = _unpacked(body, layers, _STREAM_BYTES if is_form else _HEAD)
        budget -= len(content)
        if is_form:
            calls = Counter(_DRAWS.findall(content)) if b"Do" in content else Counter[bytes]()
            objects = objects or (_objects(data) if calls else {})
            own = _names(said, objects) if b"/Resources" in said else None
            forms[number] = _Form(len(content), calls, own)
        elif b"begincmap" in content or b"beginbf" in content:
            content = _unpacked(body, layers, _STREAM_BYTES)
            budget -= len(content)
            if _STANDS_FOR.search(content):
                raise TooLarge(
                    f"1 文字が {_LETTERS} 文字を超えて展開されます。PDF を作り直してください"
                )
    if objects and _drawn(forms, objects, seen) > _DRAWN:
        raise TooLarge(
            f"図形の入れ子で {_DRAWN:,} 個を超える図形が描かれます。PDF を作り直してください"
        )


def streams(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Of each stream its object's number, its dictionary and what it holds, still packed."""
    at = 0
    while (word := data.find(b"stream", at)) >= 0:
        at = word + 6
        begin = data.rfind(b"obj", max(word - _DICTIONARY, 0), word)
        # 「12 0 obj」
        found = [*_OBJECT.finditer(data, max(begin - 30, 0), begin + 3)] if begin >= 0 else []
        if not found or data[word - 3 : word] == b"end":
            continue
        start = at + (2 if data.startswith(b"\r\n", at) else 1)
        end = data.find(b"endstream", start)
        end = len(data) if end < 0 else end
        if (object_end := data.find(b"endobj", start, end)) >= 0:
            end = object_end
        yield int(found[-1][1]), data[begin + 3 : word], data[start:end]
        at = end + 6


def unpacked(said: bytes, body: bytes, most: int) -> bytes:
    """The beginning of a stream; nothing of one that is packed otherwise than by Flate."""
    layers = _layers(said)
    return b"" if not layers and b"/Filter" in said else _unpacked(body, layers, most)


def _layers(said: bytes) -> int:
    """How many times Flate is around a stream; 0 for one that is not packed, or otherwise."""
    found = _FLATE.search(said)
    return (found[1] or b"/FlateDecode").count(b"/FlateDecode") if found else 0


def _unpacked(body: bytes, layers: int, most: int) -> bytes:
    if not layers:
        return body[:most]
    if layers > 1:
        out = bytearray()
        for block in _blocks(body, layers):
            out += block
            if len(out) > most:
                break
        return bytes(out[:most])
    try:
        return zlib.decompressobj().decompress(body, most)
    except zlib.error:
        return _before_harm(body, most)


def _size(body: bytes, layers: int, most: int) -> int:
    """Of what comes out; nobody counts further than `most`."""
    size = 0
    for block in _blocks(body, layers):
        size += len(block)
        if size >= most:
            break
    return min(size, most)


def _blocks(body: bytes, layers: int) -> Iterator[bytes]:
    blocks = iter((body,))
    for _ in range(layers):
        blocks = _inflated(blocks)
    return blocks


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    unpacking = zlib.decompressobj()
    for block in blocks:
        while block and not unpacking.eof:
            try:
                yield unpacking.decompress(block, _BLOCK)
            except zlib.error:  # what came before is all that PDFium makes of it, too
                return
            block = unpacking.unconsumed_tail


def _before_harm(body: bytes, most: int) -> bytes:
    """What comes before the place where it is broken: PDFium makes do with that, too."""
    unpacking, out = zlib.decompressobj(), bytearray()
    for at in range(len(body)):
        try:
            out += unpacking.decompress(body[at : at + 1])
        except zlib.error:
            break
        if len(out) > most:
            break
    return bytes(out[:most])


def _objects(data: bytes) -> dict[int, bytes]:
    """The beginning of each object that stands by itself."""
    found = {}
    at = -1
    while (at := data.find(b"obj", at + 1)) >= 0:
        for number in _OBJECT.finditer(data, max(at - 30, 0), at + 3):
            found[int(number[1])] = data[at + 3 : at + 3 + _DICTIONARY].partition(b"endobj")[0]
    return found


def _names(said: bytes, objects: dict[int, bytes]) -> Names | None:
    """What an object may draw, by its name; None where it says nothing of it."""
    if elsewhere := _RESOURCES.search(said):
        said += objects.get(int(elsewhere[1]), b"")
    elif b"/Resources" not in said and b"/XObject<<" not in said:
        return None
    names: Names = {}
    for table, number in _TABLE.findall(said):
        table = table or objects.get(int(number or 0), b"")
        names |= {name: int(target) for name, target in _NAMED.findall(table)}
    return names


def _of_pages(objects: dict[int, bytes]) -> Names:
    """What is looked for where a form's own names do not have it; nothing that pages disagree on."""
    found: defaultdict[bytes, set[int]] = defaultdict(set)
    for said in objects.values():
        if b"/XObject" in said and b"stream" not in said:
            for name, target in (_names(said, objects) or {}).items():
                found[name].add(target)
    return {name: min(targets) for name, targets in found.items() if len(targets) == 1}


def _drawn(forms: dict[int, _Form], objects: dict[int, bytes], seen: set[int]) -> int:
    """How many forms the largest of them comes to, by its size too. What draws itself does so again
    and again: only the depth ends it. `seen` are all streams: for one that is not there the page's
    name holds."""
    of_pages = _of_pages(objects)
    draws: dict[int, Counter[int]] = {}
    left = [(number, form.names or {}) for number, form in forms.items() if form.names is not None]
    left += [(n, of_pages) for n, f in forms.items() if f.names is None and n in of_pages.values()]
    while left:
        number, names = left.pop()
        form = forms[number]
        if number in draws:
            continue
        draws[number] = Counter()
        for name, times in form.calls.items():
            target = names.get(name, 0)
            target = target if target in seen else of_pages.get(name, 0)
            draws[number][target] += times
            if target in forms and forms[target].names is None:
                left.append((target, names))
    for number in _of_patterns_alone(objects, draws):
        del draws[number]
    weights = dict.fromkeys(forms, 0)
    for _ in range(_DEEP):
        before = weights
        weights = {
            number: 1
            + forms[number].size // _FORM_BYTES
            + sum(times * before.get(target, 0) for target, times in drawn.items())
            for number, drawn in draws.items()
        }
        if weights == before or max(weights.values(), default=0) > _DRAWN:
            break
    return max(weights.values(), default=0)


def _of_patterns_alone(objects: dict[int, bytes], draws: dict[int, Counter[int]]) -> set[int]:
    """Forms that nothing leads to but patterns. In doubt a form is none of them."""
    of_patterns, of_others = set[int](), set[int]()
    for said in objects.values():
        if b"/PatternType" in said:
            of_patterns.update((_names(said, objects) or {}).values())
        elif b"/XObject" in said and not _FORM.search(said):
            of_others.update((_names(said, objects) or {}).values())
    return _reached(of_patterns, draws) - _reached(of_others, draws)


def _reached(roots: set[int], draws: dict[int, Counter[int]]) -> set[int]:
    found, left = set[int](), [n for n in roots if n in draws]
    while left:
        if (number := left.pop()) not in found:
            found.add(number)
            left += [target for target in draws[number] if target in draws]
    return found
