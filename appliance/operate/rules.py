"""What is worth an alert: a row of RULES, a function that finds it.

A finding names sources, folders and files of the machine; never a document, nor what one says.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from sqlalchemy import Engine

from appliance import host
from appliance.backup import schedule
from appliance.errors import ApplianceError
from appliance.inference.client import InferClient
from appliance.operate.processes import answers_on_socket, web_status
from appliance.settings import Settings
from appliance.store import again, alerts, audit, maintenance, scans, sources, spaces

FAILED_RUNS = 3  # of a source, in a row
STUCK = timedelta(hours=1)
CERTIFICATE_DAYS = 30
LAST_DAYS = 7
CHAIN_EVERY_S = 6 * 3600.0


@dataclass(frozen=True)
class Finding:
    key: str
    said: str  # what is wrong, and what to do
    severity: alerts.Severity = "warning"


@dataclass
class Look:
    """What the rules look at. Kept from one look to the next."""

    engine: Engine
    settings: Settings
    state: alerts.State = field(default_factory=alerts.State)
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))
    _chain: tuple[float, int | None] | None = None

    def first_bad(self) -> int | None:
        """Of the audit chain, which is read as a whole every few hours."""
        if self._chain is None or time.monotonic() - self._chain[0] > CHAIN_EVERY_S:
            self._chain = (time.monotonic(), audit.verify(self.engine))
        return self._chain[1]


@dataclass(frozen=True)
class Rule:
    """`after_s`: how long it must last to be told; `at_work`: not while maintenance goes on."""

    name: str
    title: str
    find: Callable[[Look], Iterator[Finding]]
    after_s: float = 0.0
    at_work: bool = False


def disk(look: Look) -> Iterator[Finding]:
    places = {"data": look.settings.data}
    if look.settings.backup_folder != Path():
        places["backup"] = look.settings.backup_folder
    told = "disk:data" in look.state.open, "disk:backup" in look.state.open
    for (name, folder), open_ in zip(places.items(), told, strict=False):
        if not folder.is_dir():
            yield Finding(f"disk:{name}", f"{folder} がありません。", "critical")
            continue
        least = look.settings.alert_free_bytes * (1.2 if open_ else 1.0)  # not to and fro
        if (free := shutil.disk_usage(folder).free) < least:
            yield Finding(
                f"disk:{name}",
                f"{folder} の空きが {free / 1e9:.1f} GB です。空けるか、ディスクを足してください。"
                "一杯になると取り込みが止まります。",
                "critical",
            )


def failing(look: Look) -> Iterator[Finding]:
    for one in sources.all(look.engine):
        if one.enabled and one.failures >= FAILED_RUNS:
            yield Finding(
                f"source-failing:{one.id}",
                f"情報源「{one.name}」を {one.failures} 回続けて取り込めません。"
                "「管理 › 情報源」で理由を確かめてください。",
            )


def withheld(look: Look) -> Iterator[Finding]:
    for one in sources.all(look.engine):
        if one.withheld:
            yield Finding(
                f"source-withheld:{one.id}",
                f"情報源「{one.name}」の権限を確かめられないため、文書は誰にも見つかりません。"
                "サーバーへの接続と資格情報を確かめてください。",
                "critical",
            )


def held(look: Look) -> Iterator[Finding]:
    for one in sources.all(look.engine):
        if one.enabled and one.held:
            yield Finding(
                f"source-held:{one.id}",
                f"情報源「{one.name}」の {one.held.of:,} 件のうち {one.held.missing:,} 件が"
                "一度になくなったように見えるため、消さずに確認を待っています。相手のフォルダーと"
                "権限を確かめてください。本当に消したのなら、管理画面の情報源で「消えたことを反映」を"
                "押してください。",
            )


def backup(look: Look) -> Iterator[Finding]:
    if why := schedule.problem(look.engine, look.settings, look.moment):
        yield Finding("backup-missing", why, "critical")


def unverified(look: Look) -> Iterator[Finding]:
    days = look.settings.alert_verify_days
    last = schedule.outcome(look.engine)
    if not days or not schedule.is_on(look.settings) or last is None:
        return
    checked = schedule.outcome(look.engine, schedule.VERIFIED)
    if checked and not checked.ok:
        yield Finding(
            "backup-unverified", f"控えの確認で問題が見つかりました。{checked.said}", "critical"
        )
        return
    since = checked.at if checked else schedule.begun(look.engine)
    if since and look.moment - since > timedelta(days=days):
        yield Finding(
            "backup-unverified",
            f"控えが戻せることを {days} 日以上確かめていません。"
            "`kura backup verify --restore` を実行してください。",
        )


def certificates(look: Look) -> Iterator[Finding]:
    for path in watched(look.settings):
        try:
            ends = min(
                c.not_valid_after_utc for c in x509.load_pem_x509_certificates(path.read_bytes())
            )
        except (OSError, ValueError):
            yield Finding(f"certificate:{path}", f"証明書 {path} を読めません。")
            continue
        days = (ends - look.moment) / timedelta(days=1)
        if days >= CERTIFICATE_DAYS:
            continue
        when = f"{ends.astimezone(look.settings.zone):%Y-%m-%d %H:%M}"
        said = "に切れました" if days < 0 else "に切れます"
        yield Finding(
            f"certificate:{path}",
            f"証明書 {path} の期限が {when} {said}。更新してください。",
            "critical" if days < LAST_DAYS else "warning",
        )


def watched(settings: Settings) -> list[Path]:
    """Certificates whose end is looked at."""
    named = [Path(one.strip()) for one in settings.alert_certificates.split(",") if one.strip()]
    own = [p for p in (settings.tls_certificate, settings.ca_file) if p != Path()]
    return list(dict.fromkeys(named + own))


def model(look: Look) -> Iterator[Finding]:
    """`kura infer` embeds questions even where another server writes the answers."""
    elsewhere = look.settings.generator_url
    if not answers_on_socket(look.settings.infer_socket):
        yield Finding(
            "model",
            "モデルのプロセス（kura infer）が応答しません。検索も回答もできません。"
            f"`kura status` と {host.log_of('infer')}を見てください。",
            "critical",
        )
    if elsewhere and not model_answers(look.settings):
        yield Finding(
            "model:generator",
            f"回答を作るサーバー {urlsplit(elsewhere).netloc}（generator_url）が応答しません。"
            "検索はできますが、回答は作れません。そのサーバーの担当に知らせてください。",
            "critical",
        )


def web(look: Look) -> Iterator[Finding]:
    said = web_status(look.settings)
    if said not in ("ready", "degraded"):
        why = "索引を読み込み終えません" if said else "応答しません"
        yield Finding(
            "web",
            f"`kura web` が{why}。誰も質問できません。`kura status` を見てください。",
            "critical",
        )


def queue(look: Look) -> Iterator[Finding]:
    zone, late = look.settings.zone, look.moment - STUCK
    for one in sources.all(look.engine):
        quiet = one.timing.quiet_until(look.moment, zone)
        if one.enabled and not one.leased_by and not quiet and one.due_at < late:
            yield Finding(
                f"queue:source:{one.id}",
                f"情報源「{one.name}」の順番が 1 時間以上来ません。`kura work` を確かめてください。",
            )
    if (oldest := again.oldest(look.engine)) and oldest < late:
        yield Finding("queue:again", "読み直しを頼まれた文書が 1 時間以上待っています。")


def pages(look: Look) -> Iterator[Finding]:
    found = scans.counts(look.engine)
    if look.settings.ocr and found.waiting and not found.per_minute:
        yield Finding(
            "queue:pages",
            f"文字の読み取り (OCR) が進みません。{found.waiting} ページが待っています。"
            "`kura work` の記録を見てください。",
        )


def anew(look: Look) -> Iterator[Finding]:
    """Slow is not wrong: a large site takes days."""
    move = spaces.move(look.engine)
    if move and not move.complete and look.moment - move.moved_at > STUCK:
        yield Finding(
            "embedding-anew",
            f"埋め込み直しが {move.done} / {move.total} 単位から {STUCK.seconds // 60} 分以上進んでいません。"
            f"検索は{f' {move.origin} ' if move.origin else '言葉'}で続いています。`kura infer` と `kura work` のログを見てください。",
        )


def chain(look: Look) -> Iterator[Finding]:
    if (bad := look.first_bad()) is not None:
        yield Finding(
            "audit",
            f"監査記録が {bad} 番から書き換えられています。データベースの控えを取り、"
            "誰が触れたかを調べてください。",
            "critical",
        )


def overdue(look: Look) -> Iterator[Finding]:
    now = maintenance.state(look.engine)
    if now and now.until and now.until < look.moment:
        yield Finding(
            "maintenance",
            "メンテナンスが予定の時刻を過ぎて続いています。終わったら `kura maintenance off` を"
            "実行してください。",
        )


def channels(look: Look) -> Iterator[Finding]:
    names: dict[str, str] = {"mail": "メール", "webhook": "Webhook", "syslog": "syslog"}
    for name, box in look.state.outboxes.items():
        if box.failures >= FAILED_RUNS:
            yield Finding(
                f"channel:{name}", f"通知を {names.get(name, name)} で送れません。{box.problem}"
            )


RULES: tuple[Rule, ...] = (
    Rule("disk", "ディスクの空き", disk, after_s=60),
    Rule("source-failing", "情報源を取り込めない", failing),
    Rule("source-withheld", "情報源の権限が分からない", withheld),
    Rule("source-held", "情報源が確認待ち", held, after_s=60),
    Rule("backup-missing", "控えがない", backup),
    Rule("backup-unverified", "控えを確かめていない", unverified),
    Rule("certificate", "証明書の期限", certificates),
    Rule("model", "モデルが応答しない", model, after_s=300, at_work=True),
    Rule("web", "画面と API が応答しない", web, after_s=600, at_work=True),
    Rule("queue", "取り込みが進まない", queue, after_s=300, at_work=True),
    Rule("queue-pages", "文字の読み取りが進まない", pages, after_s=3600, at_work=True),
    Rule("embedding-anew", "埋め込み直しが進まない", anew, at_work=True),
    Rule("audit", "監査記録が壊れている", chain),
    Rule("maintenance", "メンテナンスが終わらない", overdue),
    Rule("channel", "通知が届かない", channels),
)


# --- the processes beside this one ----------------------------------------------------


def model_answers(settings: Settings) -> bool:
    """Whether what answers questions does, here or at `generator_url`."""
    if not settings.generator_url:
        return answers_on_socket(settings.infer_socket)
    client = InferClient(settings.generator_url, timeout_s=5.0)
    try:
        client.get("/v1/models")
    except ApplianceError:
        return False
    finally:
        client.close()
    return True
