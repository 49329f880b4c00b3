"""PP-OCR through onnxruntime: where lines stand on a picture, and what a line says.

The only file that knows the models. They come inside the wheel of `rapidocr`, whose own code is
never run: it would fetch what it misses. Only bytes with the digest below are ever loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from appliance.errors import DigestMismatch, SettingsError

Picture = NDArray[np.uint8]  # (height, width, 3), BGR
Quad = NDArray[np.float32]  # (4, 2): corners from the top left on, clockwise

FILES = {
    "PP-OCRv6_det_small.onnx": "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    "PP-OCRv6_rec_small.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}
_DETECTED_SIDE = 1536  # pixels: the longer side that lines are looked for on
_INK, _BOX_SURE, _GROWN = 0.3, 0.5, 1.6  # as the detector was trained to be read
_THIN = 3.0  # pixels on the detector's map
_LINE_HEIGHT = 48  # pixels: what the recogniser takes
_SQUEEZE = 0.7  # of a line's width: no error more, a third of the time less (docs/en/ocr.md)
_LONGEST = 8_000  # pixels of a squeezed line; a longer one is squeezed further
_LINES = 3_000


def problem() -> str | None:
    """Why pages cannot be read on this machine; None when the models are there and whole."""
    try:
        for name in FILES:
            _model(name)
    except (SettingsError, DigestMismatch) as why:
        return str(why)
    return None


class Engine:
    """Both models, on the calling thread alone: a fork of it may use them."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        detector, recogniser = (_session(_model(name)) for name in FILES)
        self._detector, self._recogniser = detector, recogniser
        characters = recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._characters = ["", *characters, " "]  # the blank first, a space last

    def lines(self, picture: Picture) -> list[Quad]:
        """Where lines of text stand, in no order."""
        height, width = picture.shape[:2]
        ratio = min(1.0, _DETECTED_SIDE / max(height, width))
        rows, columns = (max(32, round(side * ratio / 32) * 32) for side in (height, width))
        small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
        ink = self._detector.run(None, {"x": _tensor(small)})[0][0, 0]
        mask = cv2.dilate((ink > _INK).astype(np.uint8), np.ones((2, 2), np.uint8))
        shapes, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        scale = np.array([width / columns, height / rows], np.float32)
        found = [_corners(quad * scale) for s in shapes if (quad := _grown(s, ink)) is not None]
        return found[:_LINES]

    def read(self, line: Picture) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
        """What a line says, how sure each letter is, and where along the line it stands (0 to 1)."""
        height, width = line.shape[:2]
        across = round(_LINE_HEIGHT * width / max(1, height) * _SQUEEZE)
        size = (min(_LONGEST, max(16, across)), _LINE_HEIGHT)
        how = cv2.INTER_AREA if height > _LINE_HEIGHT else cv2.INTER_CUBIC
        odds = self._recogniser.run(None, {"x": _tensor(cv2.resize(line, size, interpolation=how))})
        best, sure = odds[0][0].argmax(1), odds[0][0].max(1)
        kept = np.flatnonzero((best != 0) & np.r_[True, best[1:] != best[:-1]])
        text = "".join(self._characters[n] for n in best[kept])
        return text, sure[kept].astype(np.float64), (kept + 0.5) / len(best)


def cut(picture: Picture, quad: Quad) -> Picture:
    """The line within these corners, straightened."""
    a, b, c, d = quad
    width = max(1, round(max(_length(a, b), _length(d, c))))
    height = max(1, round(max(_length(a, d), _length(b, c))))
    straight = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    line: Picture = cv2.warpPerspective(
        picture,
        cv2.getPerspectiveTransform(quad.astype(np.float32), straight),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return line


def _length(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(a - b))


def _tensor(picture: Picture) -> NDArray[np.float32]:
    scaled = picture.astype(np.float32) / 127.5 - 1.0
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _grown(shape: NDArray[np.int32], ink: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The rectangle of a line whose core the detector marked; None where it is not sure."""
    centre, (across, down), angle = cv2.minAreaRect(shape)
    if min(across, down) < _THIN:
        return None
    left, top, width, height = cv2.boundingRect(shape)
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [shape - [left, top]], 1)
    if cv2.mean(ink[top : top + height, left : left + width], inside)[0] < _BOX_SURE:
        return None
    by = 2 * across * down * _GROWN / (2 * (across + down))
    return np.asarray(cv2.boxPoints((centre, (across + by, down + by), angle)), np.float32)


def _corners(points: NDArray[np.float32]) -> Quad:
    """Top left, top right, bottom right, bottom left."""
    left_first = points[np.argsort(points[:, 0], kind="stable")]
    (a, d), (b, c) = (
        half[np.argsort(half[:, 1], kind="stable")] for half in (left_first[:2], left_first[2:])
    )
    return np.array([a, b, c, d], np.float32)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = (
        1  # no pool: none to lose in a fork
    )
    options.enable_cpu_mem_arena = False  # what a large page took is given back
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model(name: str) -> bytes:
    """The bytes that are loaded are the bytes that were checked."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            "文字認識のパッケージ rapidocr が入っていません。導入をやり直してください。"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "models" / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DigestMismatch(
            f"文字認識のモデル {name} がありません。rapidocr パッケージを入れ直してください。"
        ) from error
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        raise DigestMismatch(
            f"文字認識のモデル {name} の中身が記録と違います。rapidocr パッケージを入れ直してください。"
        )
    return data
