"""The built UI: its files, and its first page for every address that is its own affair."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from appliance.api import closed
from appliance.api.deps import OPEN, ApplianceDep
from appliance.errors import NotVisible

router = APIRouter(include_in_schema=False)

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
NOT_BUILT = """<!doctype html><html lang="ja"><meta charset="utf-8"><title>Kura</title>
<p>画面がまだ作られていません。<code>make ui</code> を実行してください。</p>
<p lang="en">The UI has not been built: run <code>make ui</code>.</p></html>"""


@router.get("/{path:path}", dependencies=[OPEN])
def page(path: str, request: Request, machine: ApplianceDep) -> Response:
    folder = machine.settings.ui.resolve()
    if path.split("/")[0] in ("api", "v1"):
        raise NotVisible(path)
    if path and (file := _file(folder, path)):
        # The build puts a digest into the name of everything under assets/.
        once = path.startswith("assets/")
        caching = "public, max-age=31536000, immutable" if once else "no-cache"
        return FileResponse(file, media_type=TYPES[file.suffix], headers={"Cache-Control": caching})
    if "." in path.rsplit("/", 1)[-1]:
        raise NotVisible(path)
    if "administrator" not in request.query_params and (refused := closed.page(request, machine)):
        return refused
    headers = {"Cache-Control": "no-cache"}
    if not (index := folder / "index.html").is_file():
        return Response(NOT_BUILT, 503, headers, TYPES[".html"])
    return FileResponse(index, media_type=TYPES[".html"], headers=headers)


def _file(folder: Path, path: str) -> Path | None:
    if "\0" in path or len(path) > 500:
        return None
    file = (folder / path).resolve()
    inside = file.is_relative_to(folder) and file.suffix in TYPES
    return file if inside and file.is_file() else None
