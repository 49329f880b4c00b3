"""Where alerts go: what kura.toml says of a way; of the others, what an administrator set.

What kura.toml says of a way is all of it, so that nobody who got hold of an administrator's session
can lead elsewhere what the machine's administrator fixed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from sqlalchemy import Engine

from appliance.errors import BadRequest, SettingsError
from appliance.operate.channels import Channel, Mail, Syslog, Webhook
from appliance.settings import Settings
from appliance.store import alerts
from appliance.types import Site

WAYS = ("syslog", "mail", "webhook")  # the quickest to answer first
HEADS = {"mail": "mail_server", "webhook": "webhook_url", "syslog": "syslog"}  # says that it is on
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_PLACE = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")


class Destinations(BaseModel):
    """The same names as in kura.toml, without `alert_`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    mail_server: str = ""
    mail_security: Literal["starttls", "tls", "none"] = "starttls"
    mail_user: str = ""
    mail_password: str = ""
    mail_from: str = ""
    mail_to: str = ""
    webhook_url: str = ""
    webhook_secret: str = ""
    syslog: str = ""

    @model_validator(mode="after")
    def _usable(self) -> Destinations:
        for name, value in self:
            if len(value) > 2000 or not _PLAIN.fullmatch(value):
                raise ValueError(f"{name}: 改行や制御文字は使えません")
        if self.mail_server:
            place(self.mail_server, "mail_server")
            for address in [self.mail_from, *self.recipients]:
                if not _ADDRESS.fullmatch(address):
                    raise ValueError("mail_from と mail_to には、メールアドレスを書いてください")
            if not self.recipients:
                raise ValueError("mail_to には、宛先を一つは書いてください")
            if self.mail_security == "none" and self.mail_user:
                raise ValueError("mail_security が none のときは、サインインできません")
            if self.mail_user and not self.mail_password:
                raise ValueError("mail_password がありません")
        if self.webhook_url and not re.match(r"https?://[^\s@]+$", self.webhook_url):
            raise ValueError("webhook_url には、http(s):// で始まる URL を書いてください")
        if self.webhook_url and len(self.webhook_secret) < 16:
            raise ValueError("webhook_secret は、16 文字以上にしてください")
        if self.syslog:
            syslog(self.syslog)
        return self

    @property
    def recipients(self) -> list[str]:
        return [one.strip() for one in self.mail_to.split(",") if one.strip()]


def place(text: str, name: str) -> tuple[str, int]:
    """host:port. Raises ValueError."""
    found = _PLACE.fullmatch(text)
    if not found or not 0 < int(found[2]) < 65536:
        raise ValueError(f"{name} は、ホスト:ポート の形に書いてください")
    return found[1].strip("[]"), int(found[2])


def syslog(text: str) -> tuple[str, str, int]:
    """Transport, host and port; of `local` only the first. Raises ValueError."""
    if text == "local":
        return "local", "", 0
    scheme, _, rest = text.partition("://")
    if scheme not in ("udp", "tcp", "tls"):
        raise ValueError(
            "syslog は、udp://ホスト:514、tcp://、tls://、local のどれかにしてください"
        )
    return scheme, *place(rest, "syslog")


def told(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def checked(given: Mapping[str, Any]) -> Destinations:
    """Raises BadRequest."""
    try:
        return Destinations.model_validate(given)
    except ValidationError as error:
        raise BadRequest(f"{told(error)}。") from None


def fixed(settings: Settings) -> dict[str, str]:
    """What kura.toml says, by name, of the ways that it names."""
    given = {
        f.name.removeprefix("alert_"): str(getattr(settings, f.name))
        for f in fields(Settings)
        if f.name.removeprefix("alert_") in Destinations.model_fields
    }
    on = {way for way, head in HEADS.items() if given[head]}
    return {name: value for name, value in given.items() if way_of(name) in on}


def way_of(name: str) -> str:
    return name.partition("_")[0]


def chosen(engine: Engine, settings: Settings, site: Site) -> Destinations:
    """All of them, secrets opened. Raises SettingsError, SourceMisconfigured."""
    file = fixed(settings)
    kept = {n: v for n, v in alerts.destinations(engine).items() if n not in file}
    try:
        return Destinations.model_validate(site.unseal(kept) | file)
    except ValidationError as error:
        raise SettingsError(f"通知の設定: {told(error)}。") from None


def channels(
    engine: Engine, settings: Settings, site: Site
) -> tuple[dict[str, Channel], dict[str, str]]:
    """The ways there are, and those whose settings cannot be used, with why."""
    file, kept = fixed(settings), alerts.destinations(engine)
    made: dict[str, Channel] = {}
    broken: dict[str, str] = {}
    for way in WAYS:
        mine = {n: v for n, v in (kept | file).items() if way_of(n) == way}
        if not mine.get(HEADS[way]):
            continue
        try:
            made[way] = _channel(way, Destinations.model_validate(site.unseal(mine)), site)
        except ValidationError as error:
            broken[way] = f"通知の設定: {told(error)}。"
        except Exception as error:  # noqa: BLE001 - a key that is another, a file that is away
            broken[way] = str(error) or type(error).__name__
    return made, broken


def _channel(way: str, to: Destinations, site: Site) -> Channel:
    match way:
        case "mail":
            host, port = place(to.mail_server, "mail_server")
            return Mail(
                host,
                port,
                to.mail_security,
                to.mail_user,
                to.mail_password,
                to.mail_from,
                tuple(to.recipients),
                site,
            )
        case "webhook":
            return Webhook(to.webhook_url, to.webhook_secret, site)
        case _:
            return Syslog(*syslog(to.syslog), site)


def same_place(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a secret that was kept would go where it went before."""
    heads = {
        "mail_password": ("mail_server", "mail_security", "mail_user"),
        "webhook_secret": ("webhook_url",),
    }
    return all(before.get(one, "") == after.get(one, "") for one in heads.get(name, ()))
