"""方眼紙: forms drawn in Excel on a paper of small squares, every field of merged cells."""

from __future__ import annotations

from dataclasses import dataclass, field

from openpyxl.styles import Alignment, PatternFill
from openpyxl.utils import get_column_letter

from tests.corpus import producers as by
from tests.corpus.paper import Rows, Shelf

_SQUARES = 48  # columns of a paper
_GREY = PatternFill("solid", fgColor="D9D9D9")


@dataclass
class Form:
    """A paper of squares; `at` is the row that is written next."""

    title: str
    at: int = 1
    pairs: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Rows] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = by.workbook(self.title)
        self.sheet = self.book.active
        for column in range(1, _SQUARES + 1):
            self.sheet.column_dimensions[get_column_letter(column)].width = 2.6
        self.cell(14, 20, self.title, ruled=False, height=2)
        self.at += 3

    def cell(
        self, left: int, width: int, value: object, *, ruled: bool = True, grey: bool = False,
        height: int = 1, down: int = 0,
    ) -> None:  # fmt: skip
        """`value` in a merged field, `down` rows below the present one."""
        top = self.at + down
        first = self.sheet.cell(top, left)
        first.value = value  # type: ignore[assignment]
        first.alignment = Alignment(horizontal="center", vertical="center", wrap_text=True)
        for row in range(top, top + height):
            for column in range(left, left + width):
                if ruled:
                    self.sheet.cell(row, column).border = by.BOX
                if grey:
                    self.sheet.cell(row, column).fill = _GREY
        if width > 1 or height > 1:
            self.sheet.merge_cells(
                start_row=top,
                start_column=left,
                end_row=top + height - 1,
                end_column=left + width - 1,
            )

    def fields(
        self, *pairs: tuple[str, str], left: int = 2, label: int = 5, height: int = 1
    ) -> None:
        """Labels and their values beside each other, over the paper's width."""
        width = (_SQUARES - left) // len(pairs)
        for n, (name, value) in enumerate(pairs):
            start = left + n * width
            self.cell(start, label, name, grey=True, height=height)
            self.cell(start + label, width - label, value or None, height=height)
            if value:
                self.pairs.append((name, value))
        self.at += height

    def below(self, *pairs: tuple[str, str], left: int = 26, width: int = 5) -> None:
        """Labels above, their values below: the boxes for seals."""
        for n, (name, value) in enumerate(pairs):
            self.cell(left + n * width, width, name, grey=True)
            self.cell(left + n * width, width, value or None, height=3, down=1)
            if value:
                self.pairs.append((name, value))
        self.at += 5

    def table(
        self, widths: tuple[int, ...], *rows: tuple[str, ...], left: int = 2, blank: int = 0
    ) -> None:
        for n, row in enumerate([*rows, *[("",) * len(widths)] * blank]):
            start = left
            for width, value in zip(widths, row, strict=True):
                self.cell(start, width, _number(value), grey=n == 0)
                if isinstance(_number(value), int):
                    self.sheet.cell(self.at, start).number_format = "#,##0"
                start += width
            self.at += 1
        self.tables.append(rows)
        self.at += 1

    def say(self, text: str, left: int = 2) -> None:
        """A line across the paper."""
        self.cell(left, _SQUARES - left, text, ruled=False)
        self.at += 1


def _number(value: str) -> object:
    plain = value.replace(",", "")
    return int(plain) if plain.isdigit() and not plain.startswith("0") else value or None


def papers(shelf: Shelf) -> None:
    made = {name: write() for name, write in FORMS.items()}
    files = {f"{name}.xlsx": by.book_bytes(form.book) for name, form in made.items()}
    for name, form in made.items():
        said = {"tables": tuple(form.tables), "pairs": tuple(form.pairs)}
        shelf.add(f"grid/{name}.xlsx", files[f"{name}.xlsx"], "openpyxl", **said)
    for ending, chosen in (("xls", ["出張申請書", "見積書"]), ("ods", ["稟議書", "設備点検表"])):
        converted = by.soffice({f"{n}.xlsx": files[f"{n}.xlsx"] for n in chosen}, ending)
        for name, data in converted.items():
            said = {"tables": tuple(made[name].tables), "pairs": tuple(made[name].pairs)}
            shelf.add(f"grid/{name}.{ending}", data, by.LIBREOFFICE, **said)


def trip() -> Form:
    form = Form("出張申請書")
    form.below(("所属長", "両角"), ("部長", "五味"), ("総務", ""))
    form.fields(("申請日", "令和8年9月3日"), ("申請番号", "TR-2026-0418"))
    form.fields(("所属", "営業二課"), ("申請者", "山田 太郎"))
    form.fields(("出張先", "白樺光学株式会社 松本工場"))
    form.fields(("目的", "XYステージKS-450の立会検査と、次期機種の打合せ"), height=2)
    form.fields(("出発", "9月17日 7時30分"), ("帰着", "9月18日 19時"))
    form.at += 1
    form.table(
        (8, 16, 8, 14),
        ("区分", "経路・宿泊先", "金額", "備考"),
        ("交通費", "上諏訪から松本（往復）", "2,320", "特急は使わない"),
        ("宿泊費", "松本駅前ホテル", "9,800", "上限12,000円"),
        ("日当", "2日分", "5,000", "規程第14条"),
        blank=2,
    )
    form.fields(("仮払金", "15,000円"), ("支給方法", "給与口座へ振込"))
    return form


def estimate() -> Form:
    form = Form("御見積書")
    form.fields(("見積番号", "Q-26-1187"), ("発行日", "2026年8月28日"))
    form.fields(("宛先", "峰岸電装株式会社 御中"), ("担当", "小平 はるか"))
    form.fields(("件名", "外観検査装置 ステージ部 改造"), ("有効期限", "発行後30日"))
    form.fields(("納期", "受注後8週間"), ("支払条件", "月末締め翌月末振込"))
    form.at += 1
    form.table(
        (4, 18, 6, 4, 7, 7),
        ("No", "品名", "数量", "単位", "単価", "金額"),
        ("1", "リニアモータ LM-120", "2", "台", "185,000", "370,000"),
        ("2", "ケーブルベア交換", "1", "式", "42,000", "42,000"),
        ("3", "組立・調整費", "16", "時間", "9,500", "152,000"),
        blank=2,
    )
    form.fields(("小計", "564,000円"), ("消費税", "56,400円"), ("合計", "620,400円"))
    form.fields(("備考", "現地での据付は含みません。"), height=2)
    return form


def ringi() -> Form:
    form = Form("稟議書")
    form.below(("社長", ""), ("専務", "小口"), ("部長", "濱"), ("課長", "原"), left=22)
    form.fields(("稟議番号", "R8-073"), ("起案日", "令和8年7月6日"), ("決裁日", "令和8年7月21日"))
    form.fields(("起案者", "上條 拓也"), ("部署", "営業企画課"))
    form.fields(("件名", "東京機器展への出展について"))
    form.fields(("金額", "4,750,000円"), ("予算", "展示会費（予算内）"))
    form.fields(("理由", "新機種KA-90を公開し、後工程の装置メーカーと商談を始めるため。"), height=3)
    form.fields(("効果", "商談30件、初年度受注1億円を見込む。"), height=2)
    form.at += 1
    form.table(
        (14, 10, 22),
        ("費目", "金額", "内訳"),
        ("小間料", "2,100,000", "3小間"),
        ("装飾", "1,600,000", "木工、照明、電気工事"),
        ("輸送", "450,000", "実機2台、往復"),
    )
    form.fields(("条件", "輸送中の保険を付けること。"))
    return form


def attendance() -> Form:
    form = Form("勤務表")
    form.fields(("年月", "2026年8月"), ("所属", "製造一部組立課"), ("氏名", "牛山 千尋"))
    form.fields(("社員番号", "20140327"), ("勤務形態", "日勤"))
    form.at += 1
    form.table(
        (4, 4, 8, 8, 6, 16),
        ("日", "曜日", "始業", "終業", "残業", "備考"),
        ("3", "月", "8:25", "17:30", "0:30", "朝礼当番"),
        ("4", "火", "8:28", "19:00", "2:00", "KS-450出荷対応"),
        ("5", "水", "8:30", "17:00", "0:00", "定時退社日"),
        ("6", "木", "", "", "", "有給休暇"),
        ("7", "金", "8:20", "18:15", "1:15", "安全衛生委員会"),
    )
    form.fields(("実働", "33時間45分"), ("残業計", "3時間45分"), ("有給残", "11.5日"))
    return form


def inspection() -> Form:
    form = Form("設備点検チェックシート")
    form.fields(("設備名", "マシニングセンタ5号機"), ("設備番号", "MC-05"))
    form.fields(("点検者", "小松 浩"), ("点検日", "2026年9月7日"), ("確認者", "濱"))
    form.at += 1
    form.table(
        (4, 20, 12, 5, 5),
        ("No", "点検項目", "基準", "判定", "処置"),
        ("1", "潤滑油の量", "目盛の上限と下限の間", "○", ""),
        ("2", "切削油の濃度", "5%から8%", "×", "補充"),
        ("3", "空気圧", "0.5MPa以上", "○", ""),
        ("4", "非常停止ボタン", "押すと止まる", "○", ""),
        ("5", "扉のインターロック", "開けると動かない", "△", "調整"),
    )
    form.fields(("所見", "切削油の減りが早い。漏れを調べる。"), height=3)
    return form


def complaint() -> Form:
    form = Form("クレーム処理票")
    form.fields(("受付番号", "CL-26-031"), ("受付日", "2026/7/23"), ("受付者", "中村"))
    form.fields(("顧客名", "諏訪精密株式会社"), ("連絡先", "0266-00-1234"))
    form.fields(("型番", "KS-450"), ("製造番号", "45023117"), ("納入日", "2025/12/10"))
    form.fields(("内容", "X軸の位置が12μmずれる。電源を入れ直しても直らない。"), height=2)
    form.fields(("原因", "温度補正値の設定誤り"), ("責任区分", "製造二部"))
    form.fields(("暫定処置", "現地で設定を修正（7/24）"), ("恒久対策", "出荷検査に項目を追加"))
    form.fields(("費用", "38,000円"), ("完了日", "2026/8/5"))
    return form


def purchase() -> Form:
    form = Form("物品購入依頼書")
    form.fields(("依頼日", "令和8年9月1日"), ("依頼部署", "技術三課"), ("依頼者", "原 さとみ"))
    form.fields(("希望納期", "令和8年9月25日"), ("納入場所", "諏訪工場 2階 実験室"))
    form.fields(("用途", "KA-90の振動試験"))
    form.at += 1
    form.table(
        (16, 12, 6, 12),
        ("品名", "型式", "数量", "仕入先候補"),
        ("加速度センサ", "AC-301", "4", "角間商会"),
        ("防振ゴム", "VR-50", "16", "通販でもよい"),
        ("同軸ケーブル3m", "RG-58", "4", "角間商会"),
        blank=3,
    )
    form.fields(("予算科目", "試験研究費"), ("概算", "212,000円"))
    return form


def resume() -> Form:
    form = Form("社員情報変更届")
    form.fields(("届出日", "2026年10月1日"), ("社員番号", "20190412"))
    form.fields(("フリガナ", "コダイラ ハルカ"), ("生年月日", "平成8年5月14日"))
    form.fields(("氏名", "小平 はるか"), ("旧姓", "宮澤"))
    form.fields(("郵便番号", "392-0022"), ("電話番号", "090-0000-0000"))
    form.fields(("新住所", "長野県諏訪市高島9丁目99番地 湖畔荘203号"))
    form.fields(("通勤経路", "上諏訪駅から徒歩18分"), ("通勤手当", "なし"))
    form.at += 1
    form.table(
        (10, 8, 12, 16),
        ("扶養家族", "続柄", "生年月日", "職業・学校"),
        ("小平 健太", "夫", "1995/2/3", "会社員"),
        ("小平 つむぎ", "長女", "2025/6/30", "なし"),
    )
    form.fields(("緊急連絡先", "小平 健太 080-0000-0000"))
    return form


def visit() -> Form:
    form = Form("工場見学申込書")
    form.fields(("申込日", "2026年9月30日"), ("受入担当", "総務課 赤沼"))
    form.fields(("団体名", "茅野市立北小学校 五年生"), ("人数", "児童62名、引率4名"))
    form.fields(("希望日", "第一希望 11月5日、第二希望 11月12日"))
    form.fields(("見学箇所", "組立、測定室、社員食堂"), ("所要時間", "90分"))
    form.fields(("昼食", "持参（食堂を使う）"), ("交通", "貸切バス2台"))
    form.fields(("配慮事項", "車椅子の児童が1名います。"), height=2)
    form.say("※ 熱処理棟と塗装場は見学できません。")
    return form


def handover() -> Form:
    form = Form("業務引継書")
    form.fields(("引継日", "令和8年9月30日"), ("前任者", "清水 薫"), ("後任者", "関 悠人"))
    form.at += 1
    form.table(
        (12, 8, 16, 10),
        ("業務", "頻度", "手順と場所", "関係者"),
        ("会社案内の増刷", "年2回", "共有箱「広報」の手順書第3版", "角間印刷"),
        ("取材の受付", "随時", "様式PR-2に記入し部長決裁", "総務課"),
        ("社内報の校正", "毎月20日", "三人で読み合わせ", "各課の通信員"),
    )
    form.fields(("未処理", "11月号の表紙写真が未定"), ("期限", "10月9日"))
    form.fields(("保管", "鍵は書庫B-3の上段"), ("パスワード", "情報システム課で再発行"))
    return form


FORMS = {
    "出張申請書": trip, "見積書": estimate, "稟議書": ringi, "勤務表": attendance,
    "設備点検表": inspection, "クレーム処理票": complaint, "購入依頼書": purchase,
    "変更届": resume, "見学申込書": visit, "引継書": handover,
}  # fmt: skip
