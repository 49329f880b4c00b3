"""NTLM in earnest: steps over one connection, bound to the certificate, and a password tried once."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from spnego.channel_bindings import GssChannelBindings

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.types import Failed, Site
from connectors.sharepoint_server import SharePointServerConnector
from connectors.sharepoint_server_settings import SharePointServerSettings
from tests.connectors.test_sharepoint_server import (
    complete,
    filled,
    look,
    over,
    text,
    upserts,
)
from tests.fakes.certificates import certificate
from tests.fakes.sharepoint_server import SharePoint, send
from tests.fakes.windows import DOMAIN, PASSWORD, USER


@pytest.fixture
def server() -> Iterator[SharePoint]:
    one = filled()
    yield one
    one.close()


def test_a_connection_is_signed_in_once(server: SharePoint) -> None:
    changes = look(server)
    assert len(upserts(changes)) == 6
    for file in upserts(changes).values():
        text(file)
    assert len(server.asked) > 20
    assert server.steps == server.opened == 1


def test_many_at_once_each_sign_in_on_their_own_connection(server: SharePoint) -> None:
    for number in range(40):
        server.put(f"大量/文書 {number}.txt", f"第{number}号")
    files = [f for f in upserts(look(server)).values() if f.title.startswith("文書")]
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(text, files * 3))
    assert texts == [f"第{f.title[3:]}号" for f in files] * 3
    assert server.failed == 0 and server.steps == server.opened <= 9


def test_a_server_that_forgets_is_signed_in_to_again(server: SharePoint) -> None:
    server.forgets_after = 3
    assert len(upserts(look(server))) == 6
    assert server.steps >= 3 and server.failed == 0


def test_a_connection_that_ends_amid_the_steps_is_told(server: SharePoint) -> None:
    server.hangs_up = True
    with pytest.raises(SourceUnreachable, match="途中で切れた"):
        over(server).check()


@pytest.mark.parametrize("what", [{"password": "違う"}, {"user": "EXAMPLE\\nobody"}])
def test_what_was_refused_is_not_sent_again(server: SharePoint, what: dict[str, str]) -> None:
    """Directories lock accounts after a few tries."""
    connector = over(server, sites=["/sites/eigyo", "/", "/sites/jinji"], **what)
    with pytest.raises(SourceDenied, match="サインインできません") as error:
        connector.check()
    assert PASSWORD not in str(error.value) and "違う" not in str(error.value)
    changes = list(connector.changes(None))
    assert [c for c in changes if isinstance(c, Failed)] and not complete(changes)
    assert server.failed == 1


def test_the_way_to_sign_in_is_one_that_the_server_has(server: SharePoint) -> None:
    assert len(upserts(look(server, protocol="negotiate"))) == 6
    server.schemes = ["Negotiate"]
    with pytest.raises(SourceMisconfigured, match=r"NTLM のサインインを受けつけません.*negotiate"):
        over(server).check()
    server.schemes = ["Basic realm=x"]
    with pytest.raises(SourceMisconfigured, match="basic"):
        over(server, protocol="negotiate").check()
    with pytest.raises(SourceMisconfigured, match="gssapi"):
        over(server, protocol="kerberos").check()


def test_who_signed_in_and_may_not_is_told_so(server: SharePoint) -> None:
    refused = b'{"odata.error":{"code":"-2147024891, System.UnauthorizedAccessException"}}'
    server.faults = [("/_api/web?", send(401, refused))]
    with pytest.raises(SourceDenied, match="サイト コレクションの管理者"):
        over(server).check()
    over(server).check()


def test_a_server_that_wants_nobody_to_sign_in_is_asked_all_the_same(server: SharePoint) -> None:
    page = b"<html>anybody may see this</html>"
    server.faults = [("/_api/", send(200, page))]
    with pytest.raises(SourceMisconfigured, match=r"REST API ではありません.*Windows 認証"):
        over(server).check()


@pytest.mark.parametrize("bound", [True, False])
def test_over_tls_the_sign_in_is_bound_to_the_certificate(tmp_path: Path, bound: bool) -> None:
    """Extended protection: a sign-in that was bound to another certificate is refused."""
    own = certificate(tmp_path)
    der = ssl.PEM_cert_to_DER_cert(own.cert.read_text())
    digest = hashlib.sha256(der if bound else b"whoever stands between").digest()
    bindings = GssChannelBindings(application_data=b"tls-server-end-point:" + digest)
    server = SharePoint(tls=(own.cert, own.key, bindings))
    try:
        server.put("一.txt", "一")
        settings = SharePointServerSettings.model_validate(server.settings)
        site = Site(ca_file=own.cert, near=frozenset({server.near}))
        connector = SharePointServerConnector(settings, site)
        if bound:
            connector.check()
            assert [text(f) for f in upserts(list(connector.changes(None))).values()] == ["一"]
        else:
            with pytest.raises(SourceDenied):
                connector.check()
        untrusting = Site(near=frozenset({server.near}))
        with pytest.raises(SourceMisconfigured, match="証明書"):
            SharePointServerConnector(settings, untrusting).check()
    finally:
        server.close()


def test_a_password_in_japanese_and_a_name_with_its_domain(server: SharePoint) -> None:
    assert (DOMAIN, USER) == ("EXAMPLE", "svc-kura") and not PASSWORD.isascii()
    over(server, user="example\\SVC-Kura").check()
    with pytest.raises(ValueError, match="利用者名とパスワード"):
        SharePointServerSettings.model_validate(server.settings | {"password": ""})
    assert PASSWORD not in repr(SharePointServerSettings.model_validate(server.settings))


@pytest.mark.parametrize(
    "what",
    [{"url": "https://portal.example.co.jp/sites/eigyo"}, {"sites": ["/sites/../x"]}, {"sites": []},
     {"sites": ["https://elsewhere.example.co.jp/sites/x"]}, {"domain": "example.co.jp のドメイン"}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(server: SharePoint, what: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SharePointServerSettings.model_validate(server.settings | what)


def test_sites_are_taken_as_people_write_them(server: SharePoint) -> None:
    told = {
        "sites": [f" {server.url}/sites/eigyo/ ", "sites/eigyo", "/", "/営業/%E4%BA%BA%E4%BA%8B"]
    }
    settings = SharePointServerSettings.model_validate(server.settings | told)
    assert settings.sites == ["/sites/eigyo", "/", "/営業/人事"]
    assert SharePointServerSettings.model_validate(settings.model_dump()) == settings
