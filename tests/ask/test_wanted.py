"""Words of another form than the question asks for are no answer."""

from __future__ import annotations

import pytest

from appliance.ask import wanted
from appliance.training import written


@pytest.mark.parametrize(
    ("question", "answers", "does_not"),
    [
        ("宿泊費はいくらですか", "１万２千円", "総務部"),
        ("宿泊費はいくらですか", "無料", "課長の承認"),
        ("忌引は何日とれますか", "三日", "配偶者の父母"),
        ("借りられるのは何日まで？", "翌月の末日", "事業所の外"),
        ("いつ売り出すの", "令和8年4月", "株式会社青嶺"),
        ("どのくらいで返ってくる？", "約2週間", "品質保証課"),
        ("申請は誰に出す？", "総務課長", "14"),
        ("届けはいつまでに出せばいい？", "開始の2週間前", "いつまでに出せばよいですか"),
        ("交換は何回？", "五回", "交換"),
        ("退職は何日前に言う？", "14日前まで", "退職日の18時"),
        ("昼休みは何時から", "12時15分から", "1日7時間45分"),
        ("土曜は何時に開く？", "9:30", "3営業日"),
        ("伺うなら何時ごろがよい？", "午前中", "来週"),
        ("補償はいくらか聞かれたら、誰に回す？", "田中部長", "31"),
        ("本社の住所は", "東京都台東区蔵前一丁目", "03-0000-2412"),
        ("北支店の住所は？", "北浜1-15", "総務課"),
        ("鈴木さんの携帯番号わかる？", "090-0000-2300", "2506-F40-0112"),
        ("受付の電話番号は", "（03）0000-2114", "C-1023"),
        ("故障のときの電話番号", "内線 5119", "2025年"),
        ("手土産の勘定科目コード教えて", "6320", "接待交際費"),
        ("社長の名前は？", "蔵前 正一", "2,400"),
        ("KP-2200とKP-1500の違いは", "軸シールがない", "KP-2200-A"),
        ("指揮者となったのは何歳の時？", "38歳", "1909年"),
        ("会議室は何人入れる？", "12", "1時間"),
        ("歩留まりは何パーセント？", "9割", "6時間"),
        ("日当はいくら", "2,500円", "3日"),
        ("割引はいくら？", "定価の半額", "1人1冊"),
        ("いつ売り出すの", "来年", "263台"),
        ("休憩は何分？", "１時間", "12名"),
        ("片道何キロから？", "80km以上", "2時間"),
        ("吊れるのは何トンまで", "1.2t", "3人"),
        ("何ニュートンメートルで締める？", "24 N・m", "4本"),
        ("リズムは本来何用語か", "音楽用語", "リズム"),
        ("社員証を再発行する窓口教えて", "総務課", "再発行"),
        ("How much is the daily allowance?", "2,500円", "総務部"),
        ("how many people fit in room 2", "12名", "総務部"),
        ("By when do I have to reply?", "6時間以内", "安否確認システム"),
        ("Who approves it?", "部長", "10,000"),
    ],
)
def test_what_may_answer(question: str, answers: str, does_not: str) -> None:
    assert wanted.fits(question, answers)
    assert not wanted.fits(question, does_not)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("定例会と部会のどちらが先？", "部会"),  # of the question, but a choice
        ("承認するのは部長、課長のうち誰？", "課長"),
        ("いくらでも持ち出せるのは何？", "消耗品"),  # asks for no sum
        ("AW308のロードポートはいくつ?", "3"),  # which is no number of the question's
        ("何日使える？", "20"),
        ("何日までに出す？", "当月末日"),
        ("縮尺の間違いはどの雛形から?", "補修_橋台"),
        ("免許証の住所が引っ越し前のまま。どうする?", "裏書を待つ"),
        ("土曜って何時まで受け付けてる?", "正午まで"),
        ("この扉の幅はいくらですか", "600mm"),
        ("写真は何枚いる？", "KP-2200-A、3"),
        ("これからいくら経つと使える？", "1週間"),
        ("何人分のはがきを出す？", "186本"),
        ("パスワードを何回も間違えた。どれくらい待つ？", "30分"),
        ("濾布はいつ替える？", "差圧が0.3MPaになったら"),
        ("賛成ですか、反対ですか", "反対"),
        ("補償はいくらか聞かれたら、どう返せばいいですか", "持ち帰ると伝える"),
        ("What is the limit?", "12,000 yen"),
    ],
)
def test_what_asks_for_no_form_takes_any(question: str, answer: str) -> None:
    assert wanted.fits(question, answer)


def test_answers_of_colleagues_questions_have_the_form_that_is_asked_for() -> None:
    learned = written.companies(written.read(), measured=False)
    asked = [one for firm in learned for paper in firm for one in paper.asked]
    refused = [one for one in asked if not wanted.fits(one.text, one.answer)]
    assert len(refused) < len(asked) / 200, refused[:5]


@pytest.mark.parametrize(
    ("question", "closed"),
    [
        ("副業はできますか", True),
        ("在宅勤務はできる？", True),
        ("新人研修にジーパンで来ていい?", True),
        ("参加は必須？", True),
        ("名刺が欲しい", True),
        ("夜に設置したら割増もらうん?", True),
        ("日本の法律では資格は必要か", True),
        ("副業の届けはいつまでに出しますか", False),
        ("何日休めますか", False),
        ("どうすればいいですか", False),
        ("連絡先を教えてほしい", False),
        ("水力発電によってラオスはなんと呼ばれているか。", False),
        ("宿泊費の上限は", False),
        ("宿泊費 上限", False),
    ],
)
def test_whether_a_question_asks_if_something_is_so(question: str, closed: bool) -> None:
    assert wanted.yes_or_no(question) is closed
