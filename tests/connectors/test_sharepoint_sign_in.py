"""Microsoft 365: signing in, and settings that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from appliance.errors import ApplianceError, SourceDenied, SourceMisconfigured
from appliance.store.secrets import SECRET
from connectors.sharepoint import SharePointConnector
from connectors.sharepoint_settings import SharePointSettings
from tests.connectors.test_sharepoint import filled, look, over, upserts
from tests.fakes.graph import Microsoft, send
from tests.fakes.graph_permissions import group, guid


@pytest.fixture
def cloud() -> Iterator[Microsoft]:
    one = filled()
    yield one
    one.close()


def test_a_certificate_signs_in(cloud: Microsoft) -> None:
    connector = over(cloud, **cloud.entra.pem)
    connector.check()
    assert len(upserts(list(connector.changes(None)))) == 4
    assert cloud.entra.signed_in == 1, "one token serves until it ends"
    one_line = {k: " ".join(v.split()) for k, v in cloud.entra.pem.items()}
    over(cloud, **one_line).check()
    assert SECRET.search("private_key") and SECRET.search("client_secret")
    assert "PRIVATE" not in repr(connector._settings) + repr(connector._sign_in)
    assert "himitsu" not in repr(over(cloud)._settings) + repr(over(cloud)._sign_in)


def test_a_token_is_renewed_before_its_end(cloud: Microsoft) -> None:
    cloud.entra.expires_in = 299
    look(cloud)
    assert cloud.entra.signed_in > 3


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"client_secret": "himitsu?"}, SourceDenied, "シークレットが違います.*AADSTS7000215"),
        ({"client_id": "nobody"}, SourceDenied, "アプリがこのテナントにありません"),
        ({"tenant": "nai.example"}, SourceDenied, "テナントがありません"),
        ({"sites": ["/sites/nai"]}, SourceMisconfigured, "サイト /sites/nai がありません"),
        ({"people": ["nobody@x"]}, SourceMisconfigured, "nobody@x の OneDrive がありません"),
        ({"teams": [guid(7)]}, SourceMisconfigured, "channels がありません"),
        ({"names": ["営業部"]}, SourceMisconfigured, "対応表"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"private_key": "x", "certificate": "y"}, SourceMisconfigured, "証明書を読めません"),
    ],
)
def test_a_wrong_setting_is_told(
    cloud: Microsoft, wrong: dict[str, Any], error: type[ApplianceError], words: str
) -> None:
    with pytest.raises(error, match=words) as said:
        over(cloud, **wrong).check()
    assert "himitsu" not in str(said.value)


def test_a_key_that_is_not_the_certificates_is_told(cloud: Microsoft) -> None:
    other = Microsoft(rsa.generate_private_key(65537, 2048))
    other.close()
    mixed = cloud.entra.pem | {"private_key": other.entra.pem["private_key"]}
    with pytest.raises(SourceMisconfigured, match="証明書のものではない"):
        over(cloud, **mixed).check()
    with pytest.raises(SourceDenied, match="証明書がアプリに登録されていません"):
        over(cloud, **other.entra.pem).check()


@pytest.mark.parametrize(
    "odd",
    [
        {"sites": []},
        {"client_secret": ""},
        {"certificate": "x"},
        {"teams": ["営業"]},
        {"sharepoint": "https://example.sharepoint.com/sites/a"},
        {"tenant": "a/b"},
    ],
)
def test_a_setting_that_has_no_sense_is_refused(cloud: Microsoft, odd: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        over(cloud, **odd)


def test_a_missing_permission_is_told(cloud: Microsoft) -> None:
    body = {"error": {"code": "accessDenied", "message": "x"}}
    cloud.faults = [("/permissions", lambda h: send(h, 403, body))]
    with pytest.raises(SourceDenied, match=r"Sites\.FullControl\.All"):
        over(cloud).check()
    cloud.groups[guid(1)] = []
    cloud.share("", group(guid(1)))
    cloud.faults = [("/transitiveMembers", lambda h: send(h, 403, body))]
    with pytest.raises(SourceDenied, match=r"GroupMember\.Read\.All"):
        over(cloud).check()


def test_downloads_come_from_the_sharepoint_of_the_settings(cloud: Microsoft) -> None:
    one = upserts(look(cloud, media=["http://localhost:9"]))["四月"]
    with pytest.raises(SourceDenied, match="接続先ではない"):
        one.open()
    real = SharePointSettings.model_validate(
        cloud.settings | {"sharepoint": "https://example.sharepoint.com", "media": []}
    )
    hosts = {host for _, host, _ in SharePointConnector(real)._graph.http._allowed}
    assert {"example.sharepoint.com", "example-my.sharepoint.com"} < hosts
