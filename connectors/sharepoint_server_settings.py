"""What the administrator fills in for SharePoint Server."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from connectors.negotiate import Protocol


class SharePointServerSettings(BaseModel):
    url: str = Field(
        title="SharePoint の URL",
        description="Web アプリケーションの URL (https://portal.example.co.jp)。"
        "Windows 認証でサインインできるゾーンのもの。",
    )
    user: str = Field(
        default="",
        title="利用者名",
        description=r"DOMAIN\名前。権限を読むため、読むサイト コレクションの管理者にしたアカウント。"
        "kerberos で空なら、このマシンのチケットを使います。",
    )
    password: str = Field(default="", title="パスワード", repr=False)
    sites: list[str] = Field(
        default_factory=lambda: ["/"],
        title="サイト",
        description="1 行に一つ (/sites/eigyo、いちばん上は /)。",
    )
    subsites: bool = Field(default=True, title="サブサイトも読む")
    libraries: list[str] = Field(
        default_factory=list,
        title="ライブラリとリスト",
        description="書けば、この名前のものだけを読みます (ドキュメント、お知らせ)。",
    )
    lists: bool = Field(
        default=True,
        title="リストのアイテムも読む",
        description="お知らせ、予定表、ディスカッション掲示板などのアイテムと、その添付ファイル。",
    )
    pages: bool = Field(default=True, title="サイトのページも読む")
    names: list[str] = Field(
        default_factory=list,
        title="人とグループの対応表",
        description="SharePoint の人とグループが Kura の誰かを、1 行に一つ書きます "
        r"(DOMAIN\営業部 = group:営業部、S-1-5-21-…-1203 = user:ito、営業 メンバー = group:営業部)。"
        "Kura にいない人は = nobody。ここになくても、ディレクトリ (Active Directory) から分かる"
        "人とグループは、そのまま効きます。SharePoint グループは、書かなければその人たちのことです。",
    )
    domain: str = Field(
        default="",
        title="同じ名前の人とみなすドメイン",
        description=r"書けば、対応表にもディレクトリにもない、このドメインの人 (EXAMPLE\ito) を、"
        "その名前の Kura の人 (user:ito) とみなします。",
    )
    everyone: list[str] = Field(
        default_factory=list,
        title="組織の全員",
        description="「全員」「すべての認証されたユーザー」が Kura の誰か (everyone や group:社員)。"
        "空なら、その許可は誰にも効きません。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="さらに絞る人",
        description="書けば、SharePoint で読め、かつここに名のある人だけに見えます (group:営業部)。",
    )
    deny: list[str] = Field(
        default_factory=list,
        title="拒む人",
        description="Web アプリケーションのポリシーで「すべて拒否」の人 (group:派遣)。"
        "ポリシーは API から分からないため、ここに書いてください。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    protocol: Protocol = Field(
        default="ntlm",
        title="認証方式",
        description="ntlm は NTLMv2 だけを使います。kerberos は実際の環境では確かめていません。",
    )
    per_second: float = Field(
        default=10.0,
        ge=0,
        title="毎秒の要求数",
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("url")
    @classmethod
    def _host(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise ValueError(
                "https://portal.example.co.jp の形で書き、サイトは「サイト」に書いてください"
            )
        return url

    @field_validator("sites")
    @classmethod
    def _paths(cls, sites: list[str], others: ValidationInfo) -> list[str]:
        found = []
        for site in filter(None, map(str.strip, sites)):
            if "://" in site and not f"{site}/".startswith(f"{others.data.get('url')}/"):
                raise ValueError(f"「{site}」は「SharePoint の URL」の下にありません")
            path = unquote(urlsplit(site).path if "://" in site else site).strip("/")
            if any(part in (".", "..") for part in path.split("/")) or re.search(r"[?#\\]", path):
                raise ValueError(f"「{site}」はサイトのパス (/sites/eigyo) ではありません")
            found.append(f"/{path}")
        if not found:
            raise ValueError("サイトを一つは書いてください (いちばん上は /)")
        return list(dict.fromkeys(found))

    @field_validator("domain")
    @classmethod
    def _netbios(cls, domain: str) -> str:
        domain = domain.strip().rstrip("\\")
        if domain and not re.fullmatch(r"[A-Za-z0-9._-]{1,15}", domain):
            raise ValueError(r"ドメインの短い名前だけを書いてください (EXAMPLE\ito の EXAMPLE)")
        return domain

    @model_validator(mode="after")
    def _signs_in(self) -> SharePointServerSettings:
        if self.protocol != "kerberos" and not (self.user.strip() and self.password):
            raise ValueError("利用者名とパスワードを入れてください")
        return self
