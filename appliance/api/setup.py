"""The first administrator, by the one-time code that stands on the console."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from appliance.api import session
from appliance.api.deps import OPEN, ApplianceDep, client_address
from appliance.api.shapes import Shape
from appliance.identity import setup

router = APIRouter(tags=["session"], prefix="/setup", dependencies=[OPEN])


class Needed(Shape):
    needed: bool


class Setup(Shape):
    code: str = Field(max_length=64, examples=["K7QD-M2XA-9RTP"])
    user_id: str = Field(max_length=64, examples=["admin"])
    display_name: str = Field(min_length=1, max_length=100, examples=["情報システム部"])
    password: str = Field(max_length=1024)


@router.get("")
def needed(machine: ApplianceDep) -> Needed:
    return Needed(needed=setup.needed(machine.engine))


@router.post("", status_code=201)
def first_administrator(
    body: Setup, request: Request, response: Response, machine: ApplianceDep
) -> session.SignedIn:
    address = client_address(request)
    user = setup.finish(
        machine.engine,
        machine.door,
        body.code,
        body.user_id,
        body.display_name,
        body.password,
        address,
    )
    return session.begin(machine, user, request, response, address)
