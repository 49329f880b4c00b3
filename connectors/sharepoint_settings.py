"""What the administrator fills in for Microsoft 365."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field, field_validator, model_validator

from connectors import ssh
from connectors.form import LATER, LINES

_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class SharePointSettings(BaseModel):
    tenant: str = Field(
        title="テナント", description="ディレクトリ (テナント) ID か example.onmicrosoft.com。"
    )
    client_id: str = Field(
        title="アプリケーション ID",
        description="Microsoft Entra に登録したアプリの (クライアント) ID。アプリケーションの許可"
        " Sites.FullControl.All、GroupMember.Read.All、User.Read.All"
        " (Teams を読むなら Channel.ReadBasic.All も) に管理者が同意したもの。",
    )
    certificate: str = Field(
        default="",
        title="証明書",
        description="アプリに登録した公開証明書 (PEM)。シークレットより勧めます。"
        "サイトのグループの人を調べるには、証明書と、SharePoint の許可 Sites.FullControl.All が要ります。",
        json_schema_extra=LINES,
    )
    private_key: str = Field(
        json_schema_extra=LINES,
        default="",
        title="秘密鍵",
        description="証明書の秘密鍵 (RSA、PEM)。",
        repr=False,
    )
    client_secret: str = Field(
        default="",
        title="クライアント シークレット",
        description="証明書を使わないときだけ。シークレットの「値」。",
        repr=False,
    )
    sharepoint: str = Field(
        title="SharePoint の URL", description="https://example.sharepoint.com。"
    )
    sites: list[str] = Field(
        default_factory=list,
        title="サイト",
        description="1 行に一つ (/sites/eigyo、いちばん上は /)。サイトのライブラリをすべて読みます。",
    )
    libraries: list[str] = Field(
        default_factory=list,
        title="ライブラリ",
        description="書けば、サイトの、この名前のライブラリだけを読みます (ドキュメント)。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="OneDrive を読む人",
        description="サインインの名前 (ito@example.co.jp) を 1 行に一つ。",
    )
    teams: list[str] = Field(
        default_factory=list,
        title="チーム",
        description="チーム (グループ) の ID を 1 行に一つ。チャネルのファイルを読みます。",
    )
    names: list[str] = Field(
        default_factory=list,
        title="人とグループの対応表",
        description="Microsoft 365 の名前が Kura の誰かを、1 行に一つ (user:ito@example.co.jp = user:ito、"
        "group:グループの ID = group:営業部、group:営業 メンバー = group:営業部)。"
        "グループは、書かなければその人たちのことです。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人を、サインインの名前 (ito@example.co.jp) のまま Kura の人とみなします。",
    )
    everyone: list[str] = Field(
        default_factory=list,
        title="組織の全員",
        description="「外部ユーザー以外のすべてのユーザー」が Kura の誰か (everyone や group:社員)。"
        "空なら、その許可は誰にも効きません。",
    )
    links: bool = Field(
        default=False,
        title="組織やだれでもの共有リンクを、組織の全員への許可とみなす",
        description="切ってあれば、リンクを知らない人には見えないままです。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="さらに絞る人",
        description="書けば、Microsoft 365 で読め、かつここに名のある人だけに見えます (group:営業部)。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    login: str = Field(
        default="https://login.microsoftonline.com",
        title="サインインの窓口",
        json_schema_extra=LATER,
        description="中国版などでだけ変えます (https://login.partner.microsoftonline.cn)。",
    )
    graph: str = Field(
        default="https://graph.microsoft.com",
        title="Microsoft Graph",
        json_schema_extra=LATER,
        description="中国版などでだけ変えます (https://microsoftgraph.chinacloudapi.cn)。",
    )
    media: list[str] = Field(
        default_factory=list,
        title="ファイルの配信元",
        json_schema_extra=LATER,
        description="空なら、SharePoint の URL と OneDrive (https://example-my.sharepoint.com)。",
    )
    per_second: float = Field(
        default=10.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("sharepoint", "login", "graph")
    @classmethod
    def _host(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise ValueError("https://example.sharepoint.com の形で書いてください")
        return url

    @field_validator("tenant", "client_id")
    @classmethod
    def _word(cls, said: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9.-]{1,200}", said.strip()):
            raise ValueError("ID をそのまま書いてください")
        return said.strip()

    @field_validator("private_key", "certificate")
    @classmethod
    def _lines(cls, pem: str) -> str:
        return ssh.lines(pem)

    @field_validator("teams")
    @classmethod
    def _ids(cls, teams: list[str]) -> list[str]:
        if odd := [one for one in teams if not _GUID.fullmatch(one.strip())]:
            raise ValueError(f"「{odd[0]}」はチームの ID ではありません")
        return [one.strip().lower() for one in teams]

    @model_validator(mode="after")
    def _some(self) -> SharePointSettings:
        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("証明書と秘密鍵は、両方を入れてください")
        if not self.private_key and not self.client_secret:
            raise ValueError("証明書と秘密鍵、またはクライアント シークレットを入れてください")
        if not (self.sites or self.people or self.teams):
            raise ValueError("サイト、OneDrive を読む人、チームのどれかを書いてください")
        return self
