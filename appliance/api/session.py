"""Signing in and out."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import Field

from appliance.api import closed
from appliance.api.deps import COOKIE, OPEN, ApplianceDep, SessionCaller, client_address
from appliance.api.shapes import Done, Shape, User
from appliance.identity import passwords, sessions
from appliance.store import audit, people
from appliance.system import Appliance

router = APIRouter(tags=["session"], prefix="/session")


class SignIn(Shape):
    user_id: str = Field(max_length=64, examples=["ito"])
    password: str = Field(max_length=1024)


class SignedIn(Shape):
    user: User
    csrf_token: str = Field(description="Send it as X-CSRF-Token with every unsafe method.")
    expires_at: datetime


class NewPassword(Shape):
    current: str = Field(max_length=1024)
    new: str = Field(max_length=1024)


@router.get("")
def who(caller: SessionCaller) -> SignedIn:
    assert caller.session is not None
    return SignedIn(
        user=_shown(caller.user),
        csrf_token=caller.session.csrf_token,
        expires_at=caller.session.expires_at,
    )


@router.post("", dependencies=[OPEN])
def sign_in(body: SignIn, request: Request, response: Response, machine: ApplianceDep) -> SignedIn:
    address = client_address(request)
    user = passwords.sign_in(machine.engine, machine.door, body.user_id, body.password, address)
    closed.check(machine, user)
    return begin(machine, user, request, response, address)


@router.delete("")
def sign_out(
    request: Request, caller: SessionCaller, response: Response, machine: ApplianceDep
) -> Done:
    sessions.end(machine.engine, request.cookies.get(COOKIE, ""))
    audit.record(machine.engine, caller.actor, "session.end", {})
    response.delete_cookie(COOKIE, path="/")
    return Done()


@router.put("/password")
def change_password(
    body: NewPassword,
    request: Request,
    caller: SessionCaller,
    response: Response,
    machine: ApplianceDep,
) -> SignedIn:
    """Ends every session of this user, and begins a new one for the caller."""
    address = client_address(request)
    passwords.change(machine.engine, machine.door, caller.user.id, body.current, body.new, address)
    return begin(machine, caller.user, request, response, address)


def begin(
    machine: Appliance, user: people.User, request: Request, response: Response, address: str
) -> SignedIn:
    """A new session and its cookie; whatever session the browser had is over."""
    sessions.end(machine.engine, request.cookies.get(COOKIE, ""))
    session, token = sessions.begin(machine.engine, machine.settings, user)
    audit.record(machine.engine, f"user:{user.id}", "session.begin", {"address": address})
    response.set_cookie(
        COOKIE,
        token,
        max_age=machine.settings.session_hours * 3600,
        path="/",
        secure=machine.settings.origin.startswith("https://"),
        httponly=True,
        samesite="strict",
    )
    return SignedIn(
        user=_shown(user),
        csrf_token=session.csrf_token,
        expires_at=session.expires_at,
    )


def _shown(user: people.User) -> User:
    return User(id=user.id, display_name=user.display_name, role=user.role)
