"""What a person reads of an evaluation, and what the next one is compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from appliance.evaluation.measures import MEASURES

TITLES = {
    "recall@1": "正しい文書が1位",
    "recall@10": "正しい文書が10位以内",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
    "em": "答えが一致",
    "contains": "答えを含む",
    "f1": "文字 F1",
    "citation_precision": "出典の適合率",
    "citation_recall": "出典の再現率",
    "unsupported_shown": "根拠のない文を根拠ありと表示",
    "refused": "答えのない質問に「見つかりません」",
    "refused_wrongly": "答えのある質問に「見つかりません」",
}


@dataclass
class Bar:
    """A bar on the terminal; silent where the output is for a program."""

    quiet: bool = False
    _bar: Progress = field(
        default_factory=lambda: Progress(
            "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
    )
    _tasks: dict[str, TaskID] = field(default_factory=dict)

    def __enter__(self) -> Self:
        if not self.quiet:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, what: str, done: int, total: int) -> None:
        if self.quiet:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)


@dataclass(frozen=True, slots=True)
class Kept:
    """The last accepted run of one set, drawn one way."""

    folder: Path
    digest: str
    drawn: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.digest[:16]}-{self.drawn}.json"

    def last(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.path.read_text("utf-8")))
        except FileNotFoundError:
            return None

    def keep(self, figures: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        kept = figures | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        fresh.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", "utf-8")
        fresh.replace(self.path)


def text(now: dict[str, Any], before: dict[str, Any] | None) -> str:
    """A table for people: each measure, its interval, and how it was."""
    lines = [f"{now['set']}: 質問 {now['questions']}（うち答えなし {now['unanswerable']}）"]
    if now["told_elsewhere"]:
        lines.append(
            f"  読めない文書の代わりに、別の文書から正しく答えた質問: {now['told_elsewhere']}"
            "（以下には数えません）"
        )
    for name in MEASURES:
        if now.get(name) is None:
            continue
        low, high = now["intervals"][name]
        line = f"  {TITLES[name]}: {now[name]:.3f}（95% 区間 {low:.3f}–{high:.3f}）"
        if before and before.get(name) is not None:
            line += f"、前回 {before[name]:.3f}" + ("  ← 悪化" if name in now["worse"] else "")
        lines.append(line)
    for name, title in (
        ("search_s", "検索"),
        ("first_s", "答えの最初の文字まで"),
        ("answer_s", "答え終わるまで"),
    ):
        if now.get(f"{name}_p50") is not None:
            lines.append(
                f"  {title}: {now[f'{name}_p50']:.2f} 秒（95% は {now[f'{name}_p95']:.2f} 秒以内）"
            )
    for name, part in now.get("slices", {}).items():
        told = ", ".join(f"{TITLES[m]} {part[m]:.3f}" for m in MEASURES if part.get(m) is not None)
        lines.append(f"  [{name}] {part['questions']} 問: {told}")
    if now["worse"]:
        lines.append("前回より悪くなりました。それでもよければ --accept を付けて実行してください。")
    return "\n".join(lines)
