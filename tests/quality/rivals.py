"""Other readers, each in an environment of its own outside the repository; none is a dependency.

Those that fetch a model when they are first used read nothing on a machine without a way out; their
reasons are told.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 1800
_HEAD = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from importlib.metadata import version
"""
_LOOP = """
out = []
for path in json.load(sys.stdin):
    began = time.monotonic()
    try:
        text, why = read(path), ""
    except BaseException as error:
        text, why = None, f"{type(error).__name__}: {error}"[:200]
    out.append((text, why, time.monotonic() - began))
json.dump((name, out), open(sys.argv[1], "w"))
"""
READERS = {
    "markitdown": """
from markitdown import MarkItDown
name, reader = f"markitdown {version('markitdown')}", MarkItDown()
read = lambda path: reader.convert(path).text_content
""",
    "unstructured": """
from unstructured.partition.auto import partition
name = f"unstructured {version('unstructured')}"
def read(path):
    lines = []
    for e in partition(path):
        html = getattr(e.metadata, "text_as_html", None)
        if html:
            import lxml.html
            for row in lxml.html.fromstring(html).iter("tr"):
                lines.append(" | ".join(c.text_content().strip() for c in row))
        else:
            lines.append(e.text)
    return "\\n".join(lines)
""",
}

Text = tuple[str | None, str, float]  # None and the reason where it was not read; seconds


def read(name: str, python: Path, files: Sequence[Path]) -> tuple[str, list[Text]]:
    """The reader's name with its version, and what it made of each file."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        code = _HEAD + READERS[name] + _LOOP
        subprocess.run(
            [python, "-c", code, str(answer)], input=json.dumps([str(f) for f in files]),
            text=True, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=folder,
        )  # fmt: skip
        title, texts = json.loads(answer.read_text("utf-8"))
    return title, [(text, why, float(seconds)) for text, why, seconds in texts]
