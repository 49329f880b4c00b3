"""Who may call what. A route without exactly one policy keeps the application from starting.

    @router.get("/health", dependencies=[OPEN])                 anybody
    def ask(body: …, caller: QueryCaller): …                    signed in, or a key with `query`
    def users(caller: AdminCaller): …                           an administrator

A request carries one credential: `Authorization: Bearer` if the header is
there, else the cookie. A bad key never falls back to a good cookie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends as DependsClass
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from appliance.api import closed, recorded
from appliance.errors import NotAllowed, NotSignedIn, SettingsError
from appliance.identity import callers
from appliance.identity.callers import Caller
from appliance.identity.keys import KeyScope
from appliance.system import Appliance

COOKIE = closed.COOKIE
CSRF_HEADER = "x-csrf-token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def appliance(request: Request) -> Appliance:
    found: Appliance = request.app.state.appliance
    return found


@dataclass(frozen=True)
class Policy:
    """`key`: the scope an API key needs here; None: no key is taken, only a session."""

    role: Literal["open", "viewer", "administrator"]
    key: KeyScope | None = None

    def __call__(self, request: Request) -> Caller | None:
        if self.role == "open":
            return None
        machine = appliance(request)
        authorization = request.headers.get("authorization")
        if authorization is not None:
            caller = callers.by_key(machine.engine, _bearer(authorization))
            if self.key is None or caller.key is None or self.key not in caller.key.scopes:
                raise NotAllowed(f"this key lacks the scope {self.key or '(sessions only)'}")
        else:
            token = request.cookies.get(COOKIE, "")
            caller = callers.by_session(machine.engine, machine.settings, token)
            if request.method not in SAFE:
                callers.check_csrf(caller, request.headers.get(CSRF_HEADER, ""))
        if self.role == "administrator" and caller.user.role != "administrator":
            recorded.call(request, machine, caller, refused=True)
            raise NotAllowed(f"{caller.user.id} is not an administrator")
        closed.check(machine, caller.user)
        if self.role == "administrator":
            recorded.call(request, machine, caller)
        return caller


def _bearer(authorization: str) -> str:
    kind, _, secret = authorization.partition(" ")
    if kind.lower() != "bearer":
        raise NotSignedIn("only Bearer is taken")
    return secret.strip()


def _depends(policy: Policy) -> DependsClass:
    found: DependsClass = Depends(policy)
    return found


OPEN = _depends(Policy("open"))
ApplianceDep = Annotated[Appliance, Depends(appliance)]
SessionCaller = Annotated[Caller, _depends(Policy("viewer"))]
QueryCaller = Annotated[Caller, _depends(Policy("viewer", "query"))]
SearchCaller = Annotated[Caller, _depends(Policy("viewer", "search"))]
DocumentsCaller = Annotated[Caller, _depends(Policy("viewer", "documents"))]
AdminCaller = Annotated[Caller, _depends(Policy("administrator", "admin"))]


def policies(route: APIRoute) -> list[Policy]:
    """The policies a route declares; right is exactly one."""

    def walk(dependant: Dependant) -> Iterable[Policy]:
        if isinstance(dependant.call, Policy):
            yield dependant.call
        for child in dependant.dependencies:
            yield from walk(child)

    return list(walk(route.dependant))


def check(routes: Iterable[BaseRoute]) -> None:
    """Default deny: raise SettingsError for the first route that does not say who may call it."""
    for route in routes:
        if not isinstance(route, APIRoute):
            raise SettingsError(f"{route} is not an API route, so nothing guards it")
        if len(found := policies(route)) != 1:
            raise SettingsError(f"{route.path} declares {len(found)} policies, not one")


def client_address(request: Request) -> str:
    return request.client.host if request.client else ""
