"""The HTTP API. `create_app` is the whole of it; a new endpoint is a file and a row of ROUTERS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

import appliance as package
from appliance.api import (
    answers,
    catalogue,
    conversations,
    deps,
    directories,
    documents,
    dossier,
    errors,
    examples,
    health,
    keys,
    me,
    metrics,
    openai,
    operate,
    people,
    places,
    query,
    recorded,
    records,
    runs,
    session,
    setup,
    sight,
    sources,
    status,
    synonyms,
    ui,
    uploads,
)
from appliance.api.running import Seats
from appliance.api.shapes import ERROR
from appliance.api.wall import Wall
from appliance.system import Appliance

PREFIX = "/api/v1"

ROUTERS = (
    health.router,
    setup.router,
    session.router,
    me.router,
    query.router,
    conversations.router,
    answers.router,
    documents.router,
    dossier.router,
    places.router,
    status.router,
    metrics.router,
    operate.router,
    sources.router,
    runs.router,
    catalogue.router,
    people.router,
    directories.router,
    sight.router,
    keys.router,
    synonyms.router,
    examples.router,
    records.router,
)


def create_app(machine: Appliance) -> FastAPI:
    """The application. Raises SettingsError for a route that does not say who may call it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.seats.close()

    app = _routes()
    app.router.lifespan_context = lifespan
    app.state.appliance = machine
    app.state.seats = Seats(machine.engine, machine.settings.infer_queue + 8)
    app.state.looks = recorded.Looks()
    app.add_middleware(recorded.Outcomes, machine=machine)
    app.add_middleware(Wall, settings=machine.settings)
    return app


def openapi() -> dict[str, Any]:
    """The description of the API, events included. Needs no machine."""
    return _routes().openapi()


def _routes() -> FastAPI:
    app = FastAPI(
        title="Kura",
        version=package.__version__,
        summary="Answers from your own documents, each with its citation.",
        docs_url=None,  # their pages come from a CDN
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_operation_id,
    )
    errors.install(app)
    for router in ROUTERS:
        _include(app, router, PREFIX)
    form = {"max_files": 1, "max_fields": 4, "max_part_size": 64_000}
    _include(app, uploads.router, PREFIX, form_limits=form)
    _include(app, openai.router, "")
    _include(app, ui.router, "")  # last: it takes every address that is left
    app.openapi = _with_events(app)  # type: ignore[method-assign]
    return app


def _include(app: FastAPI, router: APIRouter, prefix: str, **limits: Any) -> None:
    deps.check(router.routes)
    app.include_router(router, prefix=prefix, responses=ERROR, **limits)


def _operation_id(route: APIRoute) -> str:
    """What a generated client calls it: `sources_create`."""
    return f"{route.endpoint.__module__.rsplit('.', 1)[-1]}_{route.name}"


def _with_events(app: FastAPI) -> Any:
    made = app.openapi

    def openapi() -> dict[str, Any]:
        described = made()
        _, extra = models_json_schema(
            [(query.Events, "serialization")], ref_template="#/components/schemas/{model}"
        )
        schemas = described["components"]["schemas"]
        for name, schema in extra["$defs"].items():
            schemas.setdefault(name, schema)
        return described

    return openapi
