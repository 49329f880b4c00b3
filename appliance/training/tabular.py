"""Tables made up from templates, asked as people ask: for a case between two bounds, for a row
known by two of its cells. Imported by `company.py`, whose papers these stand among.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from appliance.formats import draft

Fact = tuple[tuple[str, ...], str]  # ways to ask, and the answer


@dataclass(frozen=True, slots=True)
class Banded:
    """What goes by bands of something: `asked` is filled with a case and its unit."""

    titles: tuple[str, ...]
    head: tuple[str, str]
    lead: str
    unit: str
    low: int
    step: int
    given: str  # what a band gives: "yen", "days", "who", "share"
    asked: tuple[str, ...]


BANDED = (
    Banded(
        ("賃金規程", "通勤手当の支給基準", "通勤費取扱要領"),
        ("片道の距離", "月額"), "自動車で通勤する者には、次の額を支給する。", "km", 2, 4, "yen",
        (
            "片道{}車通勤だけど、手当は月いくら？", "家から会社まで{}、車で来てます。通勤手当いくらもらえる？",
            "自動車通勤で片道{}の者の通勤手当はいくらですか", "マイカー通勤 {} 手当額",
        ),
    ),
    Banded(
        ("決裁権限表", "稟議規程", "購買規程"),
        ("1件の金額", "決裁者"), "購入の決裁は、次の区分による。", "万円", 5, 30, "who",
        (
            "{}の機械を買いたいんだけど、誰の判子がいる？", "{}の買い物は誰が決裁するの",
            "1件{}の購入は誰の決裁になりますか", "{} 購入 決裁者",
        ),
    ),
    Banded(
        ("就業規則", "年次有給休暇の付与日数", "休暇の手引き"),
        ("勤続年数", "付与日数"), "年次有給休暇は、勤続年数に応じて与える。", "年", 1, 2, "days",
        (
            "入社して{}だと有休は何日つく？", "勤続{}の人の有給の日数は", "勤続{}の社員の年次有給休暇は何日ですか",
            "勤めて{}なんですけど、休みは年に何日もらえますか",
        ),
    ),
    Banded(
        ("送料表", "配送料金のご案内", "運賃表"),
        ("荷物の重さ", "料金"), "1個当たりの運賃は次のとおり。", "kg", 2, 5, "yen",
        (
            "{}の箱を送ると送料いくら？", "重さ{}の荷物の運賃は", "{}の荷物を1個送るときの料金はいくらですか",
            "{} 送料",
        ),
    ),
    Banded(
        ("値引き基準", "数量割引のご案内", "販売価格の取扱い"),
        ("注文数", "割引率"), "一度の注文の数により、定価から次の率を引く。", "個", 10, 50, "share",
        (
            "一度に{}買ってくれるお客さん、何パーセント引ける？", "{}注文したときの割引は", "{}の注文では何%の割引になりますか",
            "まとめて{}頼んだら、いくら安くなる？",
        ),
    ),
    Banded(
        ("慶弔見舞金規程", "災害見舞金の基準", "共済会のしおり"),
        ("勤続年数", "結婚祝金"), "社員が結婚したときは、勤続年数により祝金を贈る。", "年", 1, 4, "yen",
        ("勤続{}で結婚したらお祝いいくら？", "入社{}目に結婚します。会社から祝い金はいくら出ますか", "勤続{}の者の結婚祝金の額"),
    ),
)  # fmt: skip
WHO = ("係長", "課長", "部長", "本部長", "常務取締役", "社長", "取締役会")
WIDE = str.maketrans("0123456789", "０１２３４５６７８９")


def _given(kind: str, count: int, dice: random.Random) -> list[str]:
    """One for each band, each other than the rest, rising."""
    if kind == "who":
        return sorted(dice.sample(WHO, count), key=WHO.index)
    if kind == "yen":
        step = dice.choice((100, 500, 1000, 5000))
        return [f"{n * step:,}円" for n in sorted(dice.sample(range(3, 60), count))]
    if kind == "days":
        return [f"{n}日" for n in sorted(dice.sample(range(5, 40), count))]
    return [f"{n}%" for n in sorted(dice.sample(range(1, 30), count))]


def bands(dice: random.Random) -> tuple[str, str, list[Fact], tuple[str, ...]]:
    """(title, text, facts, questions without an answer). Each row is asked for by a case in it."""
    made = dice.choice(BANDED)
    count = dice.randint(3, 5)
    edges = [made.low + made.step * n for n in sorted(dice.sample(range(12), count))]
    given = _given(made.given, count, dice)
    written = dice.choice(
        ("{a}{u}以上{b}{u}未満", "{a}{u}以上 {b}{u}未満", "{a}{u}を超え{b}{u}以下")
    )
    first = dice.choice(("{b}{u}未満", "{b}{u}まで")) if dice.random() < 0.3 else written
    last = dice.choice(("{a}{u}以上", "{a}{u}を超えるもの"))
    rows, facts = [made.head], list[Fact]()
    for n, value in enumerate(given):
        a, b = edges[n], edges[n + 1] if n + 1 < count else 0
        form = last if not b else first if n == 0 else written
        rows.append((form.format(a=a, b=b, u=made.unit), value))
        between = dice.randint(a + 1, b - 1 if b > a + 1 else a + made.step)
        said = f"{between}{made.unit}"
        if dice.random() < 0.15:
            said = said.translate(WIDE)
        asked = tuple(way.format(said) for way in dice.sample(made.asked, 2))
        facts.append((asked, value))
    body = "\n".join(draft.table_lines(rows))
    if dice.random() < 0.3:
        body = "\n".join(f"・{a}　{b}" for a, b in rows[1:])
    other = dice.choice([b for b in BANDED if b.head != made.head])
    case = f"{other.low + other.step}{other.unit}"
    silent = (dice.choice(other.asked).format(case),)
    number = dice.choice(("", f"第{dice.randint(2, 40)}条（{made.head[1]}）\n", "■ 区分\n"))
    return dice.choice(made.titles), f"{number}{made.lead}\n{body}", facts, silent


THINGS = (
    ("ノートPC", "貸出先", ("誰が使ってる", "誰に貸してる", "貸出先は誰ですか")),
    ("社用車", "駐車場所", ("どこに停まってる", "どこに置いてある", "駐車場所はどこですか")),
    ("測定器", "次回校正日", ("次の校正いつ", "いつまで使える", "次回の校正日はいつですか")),
    ("契約", "更新日", ("いつ切れる", "更新いつだっけ", "更新日はいつですか")),
    ("会議室", "定員", ("何人入れる", "何人まで座れる", "定員は何人ですか")),
    ("金型", "保管棚", ("どの棚にある", "どこにしまってある", "保管棚はどこですか")),
    (
        "薬品",
        "保管量の上限",
        ("どれだけ置いていい", "何本まで置ける", "保管量の上限はいくらですか"),
    ),
    ("口座", "支払日", ("いつ払う", "支払いは何日", "支払日はいつですか")),
)
PLACES = ("本社", "東工場", "西工場", "大阪支店", "福岡営業所", "第1倉庫", "第2倉庫", "研究棟")
PEOPLE = (
    "佐野",
    "大島",
    "工藤",
    "早川",
    "黒田",
    "福井",
    "三浦",
    "西村",
    "永井",
    "片山",
    "浅野",
    "堀",
)


def _cell(column: str, dice: random.Random) -> str:
    if column in ("貸出先",):
        return dice.choice(PEOPLE)
    if column.endswith("日"):
        month, date = dice.randint(1, 12), dice.randint(1, 28)
        return dice.choice(
            (f"2026年{month}月{date}日", f"2026-{month:02}-{date:02}", f"毎月{date}日")
        )
    if column == "定員":
        return dice.choice((str(dice.randint(3, 80)), f"{dice.randint(3, 80)}名"))
    if column == "保管量の上限":
        return f"{dice.randint(2, 90)}{dice.choice(('本', 'L', 'kg'))}"
    return f"{dice.choice('ABCDEF')}{dice.randint(1, 9)}-{dice.randint(1, 30):02}"


def ledger(dice: random.Random) -> tuple[str, str, list[Fact], tuple[str, ...]]:
    """As `bands`: rows of a register, each known by its number, or by its kind and place."""
    thing, column, ways = dice.choice(THINGS)
    letters = "".join(dice.choices("ABCDEFGHKLMNPRSTVX", k=2))
    size = dice.randint(4, 9)
    places = dice.sample(PLACES, min(size, len(PLACES)))
    head = ["番号", "品目", "設置場所", column, "取得", "金額(円)", "備考"]
    order = [0, *dice.sample(range(1, 6), dice.randint(3, 5))]
    order = sorted({*order, 2, 3})
    rows, facts = [[head[n] for n in order] + ["備考"]], list[Fact]()
    taken: set[str] = set()
    for n, place in enumerate(places):
        number, value = f"{letters}-{dice.randint(100, 999)}", _cell(column, dice)
        if value in taken or number in taken:
            continue
        taken |= {value, number}
        price = f"{dice.randint(20, 900) * 1000:,}"
        note = dice.choice(("", "", "要修理", "更新予定", "共用"))
        full = [number, thing, place, value, f"{dice.randint(2016, 2025)}年", price, note]
        rows.append([full[i] for i in order] + [note])
        way = dice.choice(ways)
        bare = number.replace("-", "") if dice.random() < 0.3 else number
        facts.append(
            (
                (
                    f"{place}の{thing}、{way}？",
                    f"{place}にある{thing}は{way}",
                    f"{bare}って{way}？",
                ),
                value,
            )
        )
        if 5 in order:
            facts.append(((f"{bare}はいくらで買った？", f"{place}の{thing}の金額"), price))
        if n == 0:
            facts.append(((f"{bare}はどこに置いてある？", f"{bare}の設置場所はどこですか"), place))
    if dice.random() < 0.6:
        body = "\n".join(draft.labelled(rows[0], row) for row in rows[1:])
    else:
        body = "\n".join(draft.pipes(row) for row in rows)
    absent = (
        next(p for p in dice.sample(PLACES, len(PLACES)) if p not in places[:7])
        if size < 8
        else "札幌支店"
    )
    silent = (
        f"{absent}の{thing}、{dice.choice(ways)}？",
        f"{letters}-{dice.randint(1000, 1999)}は{dice.choice(ways)}？",
    )
    title = dice.choice((f"{thing}管理台帳", f"{thing}一覧", f"{thing}台帳 2025"))
    return title, body, facts, silent
