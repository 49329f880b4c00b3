"""Office papers made up from templates: rules, product sheets, minutes, price lists, contacts.

Wikipedia has no part numbers, allowances or table rows, and an office asks about little else.
Every name and number here is drawn by chance; nothing is taken from a real or sample company.
Each paper has one subject, and each question names it, so that two papers of one kind shown
side by side have one right answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.formats import draft
from appliance.training import examples, tabular

FAMILY = "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田 松本 井上 木村 林 清水 森 池田 橋本".split()  # noqa: SIM905
SECTIONS = "総務部 人事課 経理部 営業一課 営業二課 品質保証部 製造部 資材課 情報システム部 法務室 開発二課 広報室".split()  # noqa: SIM905
TOWNS = "札幌 仙台 新潟 高崎 川崎 静岡 浜松 金沢 姫路 岡山 松山 北九州 熊本 鹿児島".split()  # noqa: SIM905
WEEK = "月火水木金"


@dataclass(frozen=True, slots=True)
class Fact:
    asked: tuple[str, ...]  # ways to ask
    answer: str


@dataclass(frozen=True, slots=True)
class Paper:
    title: str
    text: str
    facts: tuple[Fact, ...]
    silent: tuple[str, ...] = ()  # questions about its subject that it does not answer


def yen(dice: random.Random, low: int, high: int, step: int) -> str:
    amount = dice.randrange(low, high, step)
    return dice.choice((f"{amount:,}円", f"{amount}円"))


def day(dice: random.Random) -> str:
    year, month, date = dice.randint(2019, 2026), dice.randint(1, 12), dice.randint(1, 28)
    return dice.choice((f"{year}年{month}月{date}日", f"令和{year - 2018}年{month}月{date}日"))


def part(dice: random.Random) -> str:
    letters = "".join(dice.choices("ABCDEFGHKLMNPRSTVX", k=dice.choice((2, 3))))
    return f"{letters}-{dice.randint(100, 9999)}{dice.choice(('', 'A', 'B', '-2', 'N'))}"


def clauses(dice: random.Random, sentences: Sequence[str]) -> str:
    """The sentences as running text, as a list, or as numbered clauses."""
    form = dice.randrange(3)
    if form == 0:
        return "".join(sentences)
    first = dice.randint(1, 30)
    marks = [f"第{first + i}条 " if form == 1 else f"{i + 1}. " for i in range(len(sentences))]
    return "\n".join(m + s for m, s in zip(marks, sentences, strict=True))


def lined(dice: random.Random, rows: Sequence[Sequence[str]]) -> str:
    """Rows as Kura's parsers write a table, or by blanks, which is what a PDF leaves of one."""
    form = dice.random()
    if form < 0.4:
        return "\n".join(draft.table_lines(rows))
    if form < 0.75:  # as in a long table, whose rows name their columns
        return "\n".join(draft.labelled(rows[0], row) for row in rows[1:])
    mark = dice.choice((" ", " ", "\t", "，", "、"))
    return "\n".join(mark.join(row) for row in rows)


def travel(dice: random.Random) -> Paper:
    who = dice.choice(("役員", "部長", "課長", "一般社員", "嘱託社員", "契約社員"))
    daily, night = yen(dice, 1000, 6000, 100), yen(dice, 7000, 18000, 500)
    days, km = f"{dice.randint(3, 30)}日以内", f"{dice.choice((50, 80, 100, 120, 150))}キロメートル"
    title = f"{dice.choice(('国内出張', '旅費', '出張旅費'))}{dice.choice(('規程', '取扱要領', '細則'))}（{who}）"
    return Paper(
        title,
        clauses(
            dice,
            [
                f"{who}の日当は1日につき{daily}とする。",
                f"{who}の宿泊料は1泊{night}を上限として実費を支給する。",
                f"出張とは、勤務地から片道{km}以上の移動を伴う業務をいう。",
                f"{who}は帰着後{days}に旅費精算書を提出しなければならない。",
            ],
        ),
        (
            Fact(
                (
                    f"{who}の日当はいくらですか",
                    f"{who}の出張日当",
                    f"{who}の場合、日当は一日いくらになりますか？",
                ),
                daily,
            ),
            Fact(
                (f"{who}の宿泊料の上限は？", f"{who}が泊まるときの宿泊費はいくらまで出ますか"),
                night,
            ),
            Fact((f"{who}の旅費精算書はいつまでに提出しますか？", f"{who}の旅費精算の期限"), days),
        ),
        (f"{who}の海外出張の支度料はいくらですか？", f"{who}はグリーン車に乗れますか"),
    )


def leave(dice: random.Random) -> Paper:
    kind = dice.choice(
        ("慶弔休暇", "リフレッシュ休暇", "夏季休暇", "看護休暇", "介護休暇", "ボランティア休暇")
    )
    length, before = f"{dice.randint(2, 14)}日", f"{dice.randint(2, 21)}日前"
    where, years = dice.choice(SECTIONS), f"勤続{dice.randint(1, 10)}年以上"
    return Paper(
        dice.choice(("就業規則", f"{kind}規程", "休暇の手引き")),
        clauses(
            dice,
            [
                f"{kind}は{years}の社員に与える。",
                f"{kind}の日数は年度ごとに{length}とし、翌年度への繰越しは認めない。",
                f"{kind}を取得する者は、開始日の{before}までに{where}へ届け出る。",
            ],
        ),
        (
            Fact((f"{kind}は何日取れますか？", f"{kind}の日数は"), length),
            Fact((f"{kind}はどこに届け出ますか", f"{kind}の届け出先はどの部署？"), where),
            Fact((f"{kind}はいつまでに届け出る必要がありますか？", f"{kind}の申請期限"), before),
            Fact((f"{kind}の対象者は？", f"どのような社員が{kind}を取れますか"), years),
        ),
        (f"{kind}の間の給与は何割支給されますか？", f"{kind}は半日単位で取れますか"),
    )


def product(dice: random.Random) -> Paper:
    name = part(dice)
    volts, watts = (
        dice.choice(("AC100V", "AC200V", "DC24V", "DC12V", "三相200V")),
        f"{dice.randint(5, 900)}W",
    )
    weight, range_ = (
        f"{dice.randint(2, 480) / 10}kg",
        f"{dice.choice((-20, -10, 0, 5))}～{dice.choice((40, 45, 50, 60))}℃",
    )
    guard, filter_ = f"IP{dice.choice((54, 55, 65, 67))}", part(dice)
    rows = [
        ("電源", volts), ("消費電力", watts), ("質量", weight),
        ("使用温度範囲", range_), ("保護等級", guard), ("交換フィルタ", filter_),
    ]  # fmt: skip
    dice.shuffle(rows)
    rows, left_out = rows[:4], rows[4:]
    mark = dice.choice((" | ", "：", "\t", ": ", "　"))
    facts = tuple(
        Fact((f"{name}の{what}は？", f"{name} {what}", f"{name}の{what}を教えてください"), value)
        for what, value in rows
    )
    text = f"型番{mark}{name}\n" + "\n".join(what + mark + value for what, value in rows)
    return Paper(
        dice.choice((f"{name} 仕様書", "製品仕様一覧", f"製品カタログ {name}")),
        text,
        facts,
        tuple(f"{name}の{what}は？" for what, _ in left_out),
    )


def minutes(dice: random.Random) -> Paper:
    topic = dice.choice(
        (
            "新倉庫移転",
            "展示会出展",
            "基幹システム更新",
            "外観検査自動化",
            "採用計画",
            "配送網見直し",
            "省エネ改修",
        )
    )
    kind = dice.choice(("定例会議", "進捗会議", "検討会", "部門会議"))
    held, due, who, chair = day(dice), day(dice), *dice.sample(FAMILY, 2)
    place, cost = f"第{dice.randint(1, 9)}会議室", f"{dice.randint(12, 980)}万円"
    where = dice.choice(SECTIONS)
    lines = [
        f"日時：{held} {dice.randint(9, 16)}時～　場所：{place}",
        f"議題：{topic}について",
        f"{topic}の予算は{cost}とすることを承認した。",
        f"{topic}の担当は{where}の{who}とし、{due}までに見積書を提出する。",
        f"司会：{chair}",
    ]
    return Paper(
        f"{topic}{kind}議事録",
        "\n".join(lines),
        (
            Fact((f"{topic}の予算はいくらに決まりましたか？", f"{topic} 予算"), cost),
            Fact((f"{topic}の担当者は誰ですか", f"{topic}は誰が担当しますか？"), who),
            Fact((f"{topic}の見積書はいつまでに提出しますか", f"{topic} 見積書 期限"), due),
            Fact((f"{topic}の{kind}はいつ開かれましたか？",), held),
            Fact((f"{topic}の{kind}はどこで開かれましたか？", f"{topic}{kind}の場所"), place),
        ),
        (
            f"{topic}の委託先はどこですか？",
            f"{topic}はいつ完了しますか",
            f"{topic}の{kind}の欠席者は誰？",
        ),
    )


def table(dice: random.Random) -> Paper:
    """Rows whose cells have to be told apart."""
    heads = dice.choice(
        (("単価", "納期", "最小ロット"), ("在庫数", "棚番", "発注点"), ("数量", "検査日", "判定"))
    )
    names = [part(dice) for _ in range(dice.randint(3, 6))]

    def cell(head: str) -> str:
        match head:
            case "単価":
                return yen(dice, 120, 98000, 10)
            case "納期":
                return f"{dice.randint(2, 90)}日"
            case "検査日":
                return day(dice)
            case "棚番":
                return f"{dice.choice('ABCDE')}-{dice.randint(1, 20)}-{dice.randint(1, 9)}"
            case "判定":
                return dice.choice(("合格", "不合格", "再検査"))
            case _:
                return f"{dice.randint(10, 5000)}個"

    rows = [(name, *(cell(h) for h in heads)) for name in names]
    text = lined(dice, [("品番", *heads), *rows])
    facts = tuple(
        Fact((f"{r[0]}の{h}は？", f"{r[0]}の{h}を教えて", f"{h} {r[0]}"), r[i])
        for r in rows
        for i, h in enumerate(heads, 1)
    )
    return Paper(dice.choice(("部品価格表", "在庫一覧", "検査成績表", "品目台帳")), text, facts)


def grid(dice: random.Random) -> Paper:
    """A table read by its row and its column: what somebody of some rank gets for something."""
    ranks = dice.sample(("一般社員", "主任", "係長", "課長", "次長", "部長", "役員", "嘱託"), 3)
    whats = dice.sample(
        (
            "日当",
            "宿泊費",
            "通勤手当",
            "家族手当",
            "住宅手当",
            "資格手当",
            "慶弔見舞金",
            "単身赴任手当",
        ),
        dice.randint(2, 4),
    )
    amounts = dice.sample(range(1000, 60000, 100), len(whats) * len(ranks))
    cell = {(what, rank): f"{amounts.pop():,}円" for what in whats for rank in ranks}
    if dice.random() < 0.5:
        rows = [("区分", *ranks), *((w, *(cell[w, r] for r in ranks)) for w in whats)]
    else:
        rows = [("役職", *whats), *((r, *(cell[w, r] for w in whats)) for r in ranks)]
    facts = tuple(
        Fact(
            (
                f"{r}の{w}はいくらですか",
                f"{r}だと{w}はいくらもらえますか？",
                f"{w} {r}",
                f"{w}は{r}の場合いくらになりますか",
            ),
            amount,
        )
        for (w, r), amount in cell.items()
    )
    left_out = [r for r in ("契約社員", "アルバイト", "顧問", "本部長") if r not in ranks]
    title = dice.choice(("給与規程 別表1", "手当一覧", "旅費規程 別表", "支給基準表"))
    head = dice.choice(
        ("", "別表第2（金額は月額または1日あたり）\n", "# 支給額\n", "（単位：円）\n")
    )
    return Paper(
        title,
        head + lined(dice, rows),
        facts,
        tuple(f"{dice.choice(left_out)}の{w}はいくらですか" for w in whats),
    )


def faq(dice: random.Random) -> Paper:
    """Questions and answers as a help desk writes them."""
    system = dice.choice(
        ("勤怠システム", "経費精算システム", "社内ポータル", "VPN", "会議予約システム", "複合機")
    )
    where, inside = dice.choice(SECTIONS), str(dice.randint(1000, 8999))
    code, minutes_ = f"E-{dice.randint(100, 999)}", f"{dice.randint(5, 60)}分"
    letters, months = f"{dice.randint(8, 16)}文字以上", f"{dice.randint(1, 12)}か月"
    act = dice.choice(
        ("端末を再起動する", "証明書を入れ直す", "ブラウザーの履歴を消す", "時刻を合わせる")
    )
    pairs = [
        (f"{system}のパスワードは何文字以上必要ですか。", f"{letters}にしてください。"),
        (f"{system}のパスワードはどのくらいで変えますか。", f"{months}ごとに変更してください。"),
        (
            f"{system}に入れません。どこに聞けばよいですか。",
            f"{where}（内線{inside}）に連絡してください。",
        ),
        (
            f"{system}に{code}と表示されます。",
            f"{act}と直ります。{minutes_}待っても直らないときは連絡してください。",
        ),
    ]
    dice.shuffle(pairs)
    ask, reply = dice.choice((("Q. ", "A. "), ("問：", "答："), ("■ ", "→ "), ("Q：", "A：")))
    return Paper(
        dice.choice((f"{system} よくある質問", f"{system}FAQ", "ヘルプデスクのお知らせ")),
        "\n".join(f"{ask}{q}\n{reply}{a}" for q, a in pairs),
        (
            Fact((f"{system}のパスワードは何文字以上ですか", f"{system} パスワード 長さ"), letters),
            Fact((f"{system}のパスワードは何か月ごとに変えますか？",), months),
            Fact((f"{system}に入れないときの連絡先はどこですか", f"{system} 問い合わせ先"), where),
            Fact((f"{system}で{code}が出たらどうすればいいですか", f"{code}の対処方法は？"), act),
            Fact((f"{system}で{code}が出たとき何分待ちますか？",), minutes_),
        ),
        (f"{system}はスマートフォンから使えますか", f"{system}の保守費用はいくらですか？"),
    )


def notice(dice: random.Random) -> Paper:
    """A mail or a notice to everybody."""
    what = dice.choice(
        (
            "健康診断",
            "防災訓練",
            "年末調整",
            "停電作業",
            "棚卸",
            "社員旅行",
            "ストレスチェック",
            "安全講習",
        )
    )
    year, month = dice.randint(2021, 2026), dice.randint(1, 12)
    held, due = (f"{month}月{d}日" for d in dice.sample(range(1, 29), 2))
    clock = f"{dice.randint(8, 17)}時{dice.choice(('', '30分'))}"
    place, who = (
        dice.choice(("本社3階ホール", "第2食堂", "正門前", "研修室A", "工場事務所")),
        dice.choice(FAMILY),
    )
    where = dice.choice(SECTIONS)
    return Paper(
        dice.choice((f"【ご案内】{what}について", f"{year}年度{what}実施要領", f"Re: {what}の件")),
        clauses(
            dice,
            [
                f"{year}年度の{what}を{held}に実施します。",
                f"集合は{clock}、場所は{place}です。",
                f"必要な書類は{due}までに{where}へ提出してください。",
                f"不明な点は{who}まで問い合わせてください。",
            ],
        ),
        (
            Fact((f"{year}年度の{what}はいつですか", f"{what}の日にち {year}年度"), held),
            Fact((f"{what}は何時に集まりますか？", f"{what}の集合時刻は"), clock),
            Fact((f"{what}の場所はどこですか", f"{what}はどこでやりますか？"), place),
            Fact((f"{what}の書類はいつまでに出しますか", f"{what} 書類 締切"), due),
            Fact((f"{what}の書類の提出先は？", f"{what}の書類はどこに出しますか"), where),
            Fact((f"{what}について誰に聞けばいいですか？",), who),
        ),
        (f"{what}の費用は誰が負担しますか？", f"{year + 1}年度の{what}はいつですか"),
    )


def errors(dice: random.Random) -> Paper:
    """What a machine shows, what it means, and what to do."""
    name, letter = part(dice), dice.choice("EFAH")
    causes = dice.sample(
        (
            "過負荷", "過電流", "温度上昇", "通信異常", "センサ断線", "電圧低下", "水位低下",
            "ドア開放", "詰まり", "空運転", "軸の固着", "冷却ファン停止",
        ),
        4,
    )  # fmt: skip
    acts = dice.sample(
        (
            "フィルタを清掃する", "電源を入れ直す", "配線を確かめる", "負荷を下げる",
            "30分待って再起動する", "扉を閉める", "給水する", "サービス店に連絡する",
            "ファンを交換する", "センサを交換する",
        ),
        4,
    )  # fmt: skip
    codes = [f"{letter}-{n:02}" for n in dice.sample(range(1, 60), 4)]
    heads = dice.choice(
        (("表示", "意味", "処置"), ("コード", "原因", "対処"), ("異常", "内容", "処置"))
    )
    rows = [heads, *zip(codes, causes, acts, strict=True)]
    facts = tuple(
        fact
        for code, cause, act in zip(codes, causes, acts, strict=True)
        for fact in (
            Fact(
                (
                    f"{name}に{code}と表示されたらどうすればいいですか",
                    f"{name} {code} 処置",
                    f"{name}の{code}が出たときは何をしますか？",
                ),
                act,
            ),
            Fact((f"{name}の{code}は何の異常ですか", f"{code}の意味は？（{name}）"), cause),
        )
    )
    absent = next(c for c in (f"{letter}-{n}" for n in range(60, 99)) if c not in codes)
    head = dice.choice(
        ("", "# 異常表示一覧\n", "7. 故障かなと思ったら\n", "異常が起きると運転を止めます。\n")
    )
    return Paper(
        dice.choice((f"{name} 取扱説明書", f"{name} サービスマニュアル", "異常表示一覧")),
        f"対象機種 {name}\n" + head + lined(dice, rows),
        facts,
        (f"{name}の{absent}が出たらどうすればいいですか", f"{name}の保証期間は何年ですか"),
    )


def incident(dice: random.Random) -> Paper:
    """A report of what went wrong: when, where, why, and what was done."""
    what = dice.choice(
        ("水漏れ", "誤出荷", "指の切創", "サーバー停止", "異音", "塗装の剥がれ", "転倒", "誤送信")
    )
    where = dice.choice(
        ("第1工場", "第2倉庫", "本社3階", "配送センター", "加工課", "組立ライン", "顧客の工場")
    )
    held, due = day(dice), day(dice)
    cause = dice.choice(
        (
            "締付けトルクの不足", "確認表の記入漏れ", "電池の劣化", "床の油の拭き残し",
            "設定の戻し忘れ", "宛先の選び間違い", "温度設定の誤り", "部品の寸法違い",
        )
    )  # fmt: skip
    stopped, count = (
        f"{dice.randint(1, 20)}時間{dice.choice(('', '30分'))}",
        f"{dice.randint(2, 90)}個",
    )
    who, cost = dice.choice(FAMILY), f"{dice.randint(2, 90)}万円"
    number = f"QR-{dice.randint(2019, 2026)}-{dice.randint(1, 99):03}"
    rows = [
        ("項目", "内容"),
        ("発生日", held),
        ("場所", where),
        ("原因", cause),
        ("停止時間", stopped),
    ]
    rows += [("対象の数", count), ("損害額", cost), ("担当", who), ("対策の期限", due)]
    if dice.random() < 0.5:
        text = lined(dice, rows)
    else:
        text = clauses(
            dice,
            [
                f"{held}に{where}で{what}が発生した。",
                f"原因は{cause}である。",
                f"設備は{stopped}停止し、対象は{count}、損害額は{cost}であった。",
                f"対策は{who}が{due}までに行う。",
            ],
        )
    return Paper(
        f"{number} {where}の{what}",
        text,
        (
            Fact(
                (
                    f"{where}の{what}の原因は何ですか",
                    f"{where}で{what}が起きたのは何が悪かったのですか？",
                ),
                cause,
            ),
            Fact((f"{where}の{what}はいつ起きましたか？", f"{where}の{what} 発生日"), held),
            Fact(
                (f"{where}の{what}でどのくらい止まりましたか", f"{where}の{what} 停止時間"), stopped
            ),
            Fact((f"{where}の{what}の損害額はいくらですか",), cost),
            Fact((f"{where}の{what}の対策は誰が担当しますか？",), who),
            Fact((f"{where}の{what}の対策はいつまでにしますか",), due),
            Fact((f"{where}の{what}の対象は何個ですか？",), count),
        ),
        (
            f"{where}の{what}でけがをした人は何人ですか",
            f"{where}の{what}の再発は何回ありましたか？",
        ),
    )


def mail(dice: random.Random) -> Paper:
    """A mail between companies about one matter."""
    firm = dice.choice(("青葉電機", "北斗運輸", "丸山化成", "みどり食品", "東和設備", "港南商事"))
    topic = dice.choice(("見積もり", "納期", "現地調査", "契約更新", "請求", "打合せ", "サンプル"))
    sender, other = dice.sample(FAMILY, 2)
    sent, due, when = (
        day(dice),
        f"{dice.randint(1, 12)}月{dice.randint(1, 28)}日",
        f"{dice.randint(9, 17)}時",
    )
    amount, number = yen(dice, 12000, 3000000, 1000), f"{dice.randint(2, 90)}台"
    name = part(dice)
    return Paper(
        dice.choice(
            (f"Re: {firm} {topic}の件", f"{topic}について（{firm}）", f"FW: {firm}様 {topic}")
        ),
        f"差出人: {sender}\n宛先: {other}\n日付: {sent}\n件名: {firm} {topic}の件\n\n{other}様\n\n"
        f"お世話になっております。{firm}様の{topic}の件です。\n"
        + clauses(
            dice,
            [
                f"{name}を{number}、金額は{amount}（税抜）でお願いしたいとのことです。",
                f"返事は{due}の{when}までに欲しいと言われています。",
                "ご確認をお願いします。",
            ],
        ),
        (
            Fact((f"{firm}の{topic}の件、金額はいくらですか", f"{firm} {topic} 金額"), amount),
            Fact((f"{firm}の{topic}の返事はいつまでですか？", f"{firm}への返事の期限"), due),
            Fact((f"{firm}の{topic}は何台の話ですか",), number),
            Fact(
                (f"{firm}の{topic}のメールは誰が書きましたか", f"{firm}の{topic}の件の差出人"),
                sender,
            ),
            Fact((f"{firm}の{topic}はどの型番の話ですか？",), name),
        ),
        (f"{firm}の{topic}の支払い条件は何ですか", f"{firm}の社長の名前は？"),
    )


def contact(dice: random.Random) -> Paper:
    town, who, where = dice.choice(TOWNS), dice.choice(FAMILY), dice.choice(SECTIONS)
    phone = f"0{dice.randint(11, 99)}-{dice.randint(100, 999)}-{dice.randint(1000, 9999)}"
    inside, code = (
        str(dice.randint(1000, 8999)),
        f"〒{dice.randint(100, 999)}-{dice.randint(1000, 9999)}",
    )
    desk = f"{town}{dice.choice(('営業所', '工場', '支店'))}"
    return Paper(
        dice.choice(("拠点一覧", "社内連絡先", f"{desk}のご案内")),
        f"{desk}（{code}）\n代表電話 {phone}\n総務窓口 {where} {who}（内線{inside}）\n"
        f"受付時間は{WEEK[0]}曜から{dice.choice(WEEK[3:])}曜の{dice.randint(8, 9)}時から17時まで。",
        (
            Fact((f"{desk}の電話番号は？", f"{desk} 代表電話"), phone),
            Fact((f"{desk}の窓口担当は誰ですか", f"{desk}の総務窓口の担当者名"), who),
            Fact((f"{desk}の郵便番号を教えて", f"{desk}の郵便番号は？"), code),
            Fact((f"{desk}の総務窓口の内線番号は？", f"{desk} 内線"), inside),
        ),
        (f"{desk}のファクス番号は？", f"{desk}の所長は誰ですか？", f"{desk}の従業員数"),
    )


def safety(dice: random.Random) -> Paper:
    machine = dice.choice(
        (
            "プレス機",
            "射出成形機",
            "コンプレッサー",
            "フォークリフト",
            "乾燥炉",
            "洗浄装置",
            "ボイラー",
        )
    )
    often, limit = f"{dice.choice((1, 2, 3, 6, 12))}か月ごと", f"{dice.randint(2, 90) / 10}MPa"
    where, keep = dice.choice(SECTIONS), f"{dice.randint(2, 10)}年間"
    return Paper(
        f"{machine}{dice.choice(('取扱手順書', '点検要領', '作業標準'))}",
        clauses(
            dice,
            [
                f"{machine}の定期点検は{often}に行う。",
                f"運転中の圧力が{limit}を超えたときは、直ちに{machine}を停止し、{where}に連絡する。",
                f"{machine}の点検記録は{keep}保存する。",
            ],
        ),
        (
            Fact(
                (f"{machine}の定期点検はどのくらいの頻度で行いますか？", f"{machine} 点検周期"),
                often,
            ),
            Fact(
                (f"{machine}はどの圧力を超えたら停止しますか", f"{machine}を止める圧力は？"), limit
            ),
            Fact(
                (
                    f"{machine}の点検記録の保存期間は？",
                    f"{machine}の点検記録はどれくらい保存しますか",
                ),
                keep,
            ),
            Fact((f"{machine}に異常があったときの連絡先はどの部署ですか？",), where),
        ),
        (
            f"{machine}の製造元はどこですか",
            f"{machine}の運転に必要な資格は？",
            f"{machine}の購入価格",
        ),
    )


def approval(dice: random.Random) -> Paper:
    what = dice.choice(
        ("備品購入", "外注契約", "広告出稿", "交際費", "修繕工事", "ソフトウェア導入", "研修参加")
    )
    low, high = dice.sample(("課長", "部長", "本部長", "常務取締役", "社長"), 2)
    edge, form = f"{dice.randint(3, 90)}万円", f"様式{dice.randint(1, 60)}号"
    keep, where = f"{dice.randint(3, 10)}年", dice.choice(SECTIONS)
    return Paper(
        dice.choice(("決裁規程", "職務権限表", f"{what}の手続き")),
        clauses(
            dice,
            [
                f"{what}のうち{edge}未満のものは{low}が決裁し、それ以外は{high}の決裁を受ける。",
                f"{what}の申請には{form}を用い、{where}に提出する。",
                f"{what}の関係書類は{keep}保存するものとする。",
            ],
        ),
        (
            Fact((f"{edge}未満の{what}は誰が決裁しますか？", f"{edge}未満の{what}の決裁者"), low),
            Fact((f"{what}の申請に使う様式は？", f"{what} 申請 様式"), form),
            Fact((f"{what}の申請書はどこに提出しますか", f"{what}の提出先の部署は？"), where),
            Fact((f"{what}の書類は何年保存しますか？", f"{what}の関係書類の保存期間"), keep),
        ),
        (f"{what}の稟議には何日かかりますか？", f"{what}の年間予算はいくらですか"),
    )


def bands(dice: random.Random) -> Paper:
    return _paper(*tabular.bands(dice))


def ledger(dice: random.Random) -> Paper:
    return _paper(*tabular.ledger(dice))


def _paper(title: str, text: str, facts: Sequence[tabular.Fact], silent: tuple[str, ...]) -> Paper:
    return Paper(title, text, tuple(Fact(*fact) for fact in facts), silent)


KINDS: tuple[Callable[[random.Random], Paper], ...] = (
    travel, leave, product, product, minutes, table, grid, grid, faq, notice, contact, safety,
    approval, errors, errors, incident, mail, bands, bands, bands, ledger, ledger, ledger,
)  # fmt: skip


def case(dice: random.Random) -> examples.Case:
    """One to four papers, often of one kind, and questions about them or about one not shown."""
    kind = dice.choice(KINDS)
    papers: list[Paper] = []
    while len(papers) < dice.choice((1, 2, 3, 4)):
        made = (kind if dice.random() < 0.5 else dice.choice(KINDS))(dice)
        subjects = {q for f in made.facts for q in f.asked}
        if not any(subjects & {q for f in p.facts for q in f.asked} for p in papers):
            papers.append(made)
    answered = [
        examples.Question(dice.choice(f.asked), f.answer, n)
        for n, p in enumerate(papers, 1)
        for f in dice.sample(p.facts, min(3, len(p.facts)))
    ]
    dice.shuffle(answered)
    answered = answered[: examples.MOST_QUESTIONS - 1]
    refused: list[examples.Question] = []
    count = 1 if dice.random() < min(1.0, len(answered) * 0.26) else 0
    text = "".join(p.text for p in papers)
    silent = [q for p in papers for q in p.silent]
    if count and silent and dice.random() < 0.5:
        refused.append(examples.Question(dice.choice(silent), "", 0))
    while len(refused) < count:
        fact = dice.choice((kind if dice.random() < 0.7 else dice.choice(KINDS))(dice).facts)
        if fact.answer not in text and not any(
            set(fact.asked) & set(f.asked) for p in papers for f in p.facts
        ):
            refused.append(examples.Question(dice.choice(fact.asked), fact.answer, 0))
    questions = [*answered, *refused]
    dice.shuffle(questions)
    shown = tuple(examples.passage(p.title, examples.label(dice), p.text) for p in papers)
    return examples.Case(shown, tuple(questions))
