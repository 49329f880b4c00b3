"""A person's own files. They become documents like any other, through the source `uploads`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import Field

from appliance.api import shelf
from appliance.api.deps import ApplianceDep, DocumentsCaller
from appliance.api.me import shareable
from appliance.api.shapes import Done, Id, Shape
from appliance.errors import BadRequest
from appliance.store import audit, catalog, sources
from appliance.system import Appliance

router = APIRouter(tags=["uploads"], prefix="/uploads")

KIND = "uploads"


class Upload(Shape):
    id: str
    name: str = Field(examples=["見積書.pdf"])
    status: Literal["pending", "ready", "problem"]
    problem: str | None = None
    document_id: str | None = None
    uploaded_at: datetime
    size_bytes: int
    allow: list[str] = Field(examples=[["user:ito"]])
    children: int = Field(description="Files inside it.")
    children_problems: int = Field(description="Those of them that could not be read.")


class Uploads(Shape):
    uploads: list[Upload]


@router.post("", status_code=202)
def upload(
    machine: ApplianceDep,
    caller: DocumentsCaller,
    file: Annotated[UploadFile, File()],
    allow: Annotated[
        str, Form(max_length=10_000, description="Principals, by comma; empty means only you.")
    ] = "",
) -> Upload:
    """Take a file in; it can be found as soon as it is read, usually within seconds."""
    item = shelf.put(
        machine.uploads,
        file.file,
        file.filename or "",
        caller.user.id,
        _allowed(allow, caller.user.id, caller.viewer.principals),
        machine.settings.file_bytes,
        file.content_type,
    )
    audit.record(
        machine.engine,
        caller.actor,
        "upload.create",
        {"upload": item.id, "name": item.name, "allow": list(item.allow)},
    )
    _wake(machine)
    return _shown(machine, item)


@router.get("")
def listing(machine: ApplianceDep, caller: DocumentsCaller) -> Uploads:
    found = shelf.of(machine.uploads, caller.user.id)
    return Uploads(uploads=_listing(machine, found))


@router.delete("/{upload_id}")
def delete(upload_id: Id, machine: ApplianceDep, caller: DocumentsCaller) -> Done:
    """The file and its document; the text is gone when this returns."""
    item = shelf.delete(machine.uploads, caller.user.id, upload_id)
    if source := _source(machine):
        catalog.forget(machine.engine, source.id, item.id)
    audit.record(machine.engine, caller.actor, "upload.delete", {"upload": item.id})
    _wake(machine)
    return Done()


def _allowed(wanted: str, user_id: str, principals: frozenset[str]) -> list[str]:
    asked = {part.strip() for part in wanted.split(",") if part.strip()}
    mine = f"user:{user_id}"
    if asked - set(shareable(principals)) - {mine}:
        raise BadRequest("共有先にできるのは、自分が属するグループか全員だけです。")
    return sorted(asked | {mine})


def _shown(machine: Appliance, item: shelf.Item) -> Upload:
    return _listing(machine, [item])[0]


def _listing(machine: Appliance, items: Sequence[shelf.Item]) -> list[Upload]:
    source = _source(machine)
    uris = [item.id for item in items]
    known = catalog.listed(machine.engine, source.id, uris) if source else {}
    return [_upload(item, known.get(item.id)) for item in items]


def _upload(item: shelf.Item, known: catalog.Listed | None) -> Upload:
    return Upload(
        id=item.id,
        name=item.name,
        status=known.status if known else "pending",
        problem=known.problem if known else None,
        document_id=known.id if known else None,
        uploaded_at=item.uploaded_at,
        size_bytes=item.size_bytes,
        allow=list(item.allow),
        children=known.children if known else 0,
        children_problems=known.children_problems if known else 0,
    )


def _source(machine: Appliance) -> sources.Source | None:
    return next((s for s in sources.all(machine.engine) if s.kind == KIND), None)


def _wake(machine: Appliance) -> None:
    if source := _source(machine):
        sources.run_now(machine.engine, source.id)
