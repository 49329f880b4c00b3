"""What is made of Confluence's storage format."""

from __future__ import annotations

from connectors import confluence_page


def test_macros_keep_their_text_and_fetch_nothing() -> None:
    body = (
        '<p>A&nbsp;&amp;&eacute;<ac:image><ri:url ri:value="http://evil/x.png"/></ac:image></p>'
        '<ac:structured-macro ac:name="code"><ac:parameter ac:name="language">sh</ac:parameter>'
        "<ac:plain-text-body><![CDATA[if a < b && &nbsp;]]></ac:plain-text-body></ac:structured-macro>"
        '<ac:structured-macro ac:name="info"><ac:parameter ac:name="title">注意</ac:parameter>'
        "<ac:rich-text-body><p>火気厳禁</p></ac:rich-text-body></ac:structured-macro>"
        '<ac:link><ri:page ri:content-title="就業規則"/></ac:link>'
        '<ac:link><ri:page ri:content-title="x"/><ac:plain-text-link-body><![CDATA[こちら]]>'
        '</ac:plain-text-link-body></ac:link><a href="http://evil/">外</a><script>alert(1)</script>'
        "<ac:task-list><ac:task><ac:task-id>7</ac:task-id><ac:task-body>提出</ac:task-body></ac:task>"
        '</ac:task-list><table><tr><td colspan="2" onclick="x">表</td></tr></table>'
        '<img src="http://evil/y.png" alt="図"/>'
    )
    text = confluence_page.page("手順 <1>", ["a"], body).decode()
    assert "<h1>手順 &lt;1&gt;</h1>" in text
    assert "<pre>if a &lt; b &amp;&amp; &amp;nbsp;</pre>" in text
    for kept in (
        "A\xa0&amp;é",
        "注意",
        "火気厳禁",
        "就業規則",
        "こちら",
        "外",
        "<li>提出</li>",
        "図",
    ):
        assert kept in text
    assert '<td colspan="2">表</td>' in text
    for gone in ("evil", "script", "onclick", ">7<", "sh<", "ri:", "ac:"):
        assert gone not in text


def test_a_body_that_is_no_xml_keeps_what_can_be_read() -> None:
    assert "残る" in confluence_page.page("t", [], "<p>残る<b>x</p>").decode()
    bomb = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><p>&a;</p>'
    assert "root:" not in confluence_page.page("t", [], bomb).decode()


def test_a_body_without_bottom_keeps_its_words() -> None:
    body = "<div>" * 240 + "底" + "</div>" * 240
    assert "底" in confluence_page.page("t", [], body).decode()
