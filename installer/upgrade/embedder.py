"""A change of the embedder between two releases: what it takes, and what is searched meanwhile.

Vectors of two embedders are never compared. Everything is embedded anew after the change, in the
background; until that is done the one before searches, where the release that serves then has it.
"""

from __future__ import annotations

import shutil

from installer.steps import Refused
from installer.upgrade.site import Facts, Site

# of the new vectors, on the disk: rows beside the old ones, and two generations of an index
COPIES = 4


def look(site: Site, now: Facts, new: Facts) -> None:
    """Say what comes. Raises Refused where the files of the new one, or the room, are missing."""
    old = now.searched_by
    if old in ("", new.embedder):
        return
    if new.embedder not in new.embedders:
        raise Refused(
            f"{new.version} に埋め込みモデル {new.embedder} のファイルがありません。束を作り直すよう、発行元に頼んでください。"
            f" / {new.version} has no files of its embedder {new.embedder}: the bundle is not whole."
        )
    if old not in new.embedders:
        site.context.say(
            f"{new.version} は埋め込みモデル {old} を持ちません。{new.embedder} で埋め込み直すまで、文書は言葉だけで探されます。"
            f" / {new.version} does not have {old}: until all is embedded anew, words find documents."
        )
    elif now.embedder != new.embedder:
        site.context.say(
            f"埋め込みモデルが {old} から {new.embedder} に変わります。更新の後、{_chunks(now):,} 単位を裏で埋め込み直します。"
            f"終わるまで {old} で検索します。"
            f" / The embedder changes: all is embedded anew behind, and {old} searches meanwhile."
        )
    if now.embedder != new.embedder:  # else it is under way already
        _room(site, now, new)


def beside(now: Facts, new: Facts) -> str:
    """The embedder that the new release loads beside its own; "" where it loads none."""
    old = now.searched_by
    return old if old != new.embedder and old in new.embedders else ""


def answers(now: Facts, new: Facts) -> bool:
    """Whether the models that run have what the new release asks for."""
    return new.embedder == now.embedder or new.embedder in now.embedders


def as_before(now: Facts, new: Facts) -> str:
    """How the release is taken without its embedder, for now; "" where it does not have the other."""
    if not (old := beside(now, new)):
        return ""
    return (
        f' kura.toml に `embedder = "{old}"` と書けば、いまの埋め込みモデルのまま更新できます。'
        f" / With that line in kura.toml the upgrade keeps the embedder there is."
    )


def back(now: Facts, then: Facts) -> str:
    """What is searched after a way back on which the data stays; "" where nothing changes.

    Raises Refused where the settings name an embedder that the release does not have.
    """
    if then.embedders and then.embedder not in then.embedders:
        raise Refused(
            f"設定の embedder が {then.embedder} ですが、{then.version} はそれを持ちません。"
            f"kura.toml から消すか、次のどれかにしてください: {'、'.join(then.embedders)}"
            f" / The setting names an embedder that {then.version} does not have."
        )
    if now.searched_by in ("", then.embedder):
        return ""
    if now.searched_by in then.embedders:
        return (
            f"{then.embedder} で埋め込み直すまで、{now.searched_by} で検索します。"
            f" / {now.searched_by} searches until all is embedded anew with {then.embedder}."
        )
    return (
        f"{then.version} は埋め込みモデル {now.searched_by} を持ちません。{then.embedder} で埋め込み直すまで、文書は言葉だけで探されます。"
        "すぐに前の検索に戻すには、やめて `kura-installer rollback --snapshot` とします（その後の分は脇に置かれます）。"
        f" / {then.version} does not have {now.searched_by}: until all is embedded anew, words find documents."
        " `--snapshot` goes back to the vectors of then instead, and puts aside what came since."
    )


def _room(site: Site, now: Facts, new: Facts) -> None:
    need = COPIES * 4 * new.dim * _chunks(now)
    if now.database:
        need += now.database.stat().st_size  # the snapshot, which stays
    free = shutil.disk_usage(site.data).free
    if need > free:
        raise Refused(
            f"埋め込み直すには {site.data} に {need / 1e9:.1f} GB の空きが要ります（いま {free / 1e9:.1f} GB）。"
            f" / {need / 1e9:.1f} GB are needed there, {free / 1e9:.1f} are free.{as_before(now, new)}"
        )


def _chunks(now: Facts) -> int:
    return now.rows.get("chunk", 0)
