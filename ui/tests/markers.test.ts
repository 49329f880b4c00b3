import { describe, expect, test } from "vitest";
import { segments } from "../src/ask/markers";
import { asText, citationAt, quoted } from "../src/ask/citations";
import { charactersIn, unitsAt } from "../src/shared/characters";
import { sayIn } from "../src/shared/text";
import type { Citation, Passage } from "../src/api/types";

const known = new Set([1, 2]);

describe("markers", () => {
  test("are taken out of the text in order, counted each", () => {
    expect(segments("あ[1]い[2][1]。", known)).toEqual([
      { text: "あ", from: 0 },
      { marker: 1, occurrence: 0, from: 1 },
      { text: "い", from: 4 },
      { marker: 2, occurrence: 0, from: 5 },
      { marker: 1, occurrence: 1, from: 8 },
      { text: "。", from: 11 },
    ]);
  });

  test("that point nowhere stay text", () => {
    expect(segments("配列[9]と[x]と[]", known)).toEqual([{ text: "配列[9]と[x]と[]", from: 0 }]);
  });

  test("that have half arrived are held back while streaming, and only then", () => {
    expect(segments("金額です[1", known, true)).toEqual([{ text: "金額です", from: 0 }]);
    expect(segments("金額です[", known, true)).toEqual([{ text: "金額です", from: 0 }]);
    expect(segments("金額です[1", known)).toEqual([{ text: "金額です[1", from: 0 }]);
  });

  test("streamed piece by piece never show less or other text than at the end", () => {
    const answer = "一[1]二[12]三[2]";
    let before = "";
    for (let n = 0; n <= answer.length; n += 1) {
      const text = segments(answer.slice(0, n), known, true).map((s) => ("text" in s ? s.text : `[${s.marker}]`)).join("");
      expect(answer.startsWith(text)).toBe(true);
      expect(text.startsWith(before)).toBe(true);
      before = text;
    }
  });

  test("HTML and Markdown come out as the text they are", () => {
    const hostile = "<img src=http://evil.example onerror=x>![a](http://evil.example)<script>1</script>";
    expect(segments(hostile, known)).toEqual([{ text: hostile, from: 0 }]);
  });
});

const citation = (marker: number, title: string): Citation => ({
  withdrawn: "false",
  marker,
  title,
  within: null,
  document_id: "d",
  source: "s",
  uri: `規程/${title}.pdf`,
  label: "p. 3",
  quote: "",
  span: null, version: null,
  supported: true,
  confidentiality: null,
});

test("the k-th occurrence of a marker finds the k-th citation of it, or the last", () => {
  const citations = [citation(1, "甲"), citation(2, "乙"), citation(1, "丙")];
  expect(citationAt(citations, 1, 1)).toBe(citations[2]);
  expect(citationAt(citations, 1, 5)).toBe(citations[2]);
  expect(citationAt(citations, 3, 0)).toBeNull();
});

test("a copied answer names each source once, in order", () => {
  const text = asText({ answer: "答え[2][1]", citations: [citation(2, "乙"), citation(1, "甲"), citation(2, "乙")] }, sayIn("ja"));
  expect(text).toBe("答え[2][1]\n\n出典\n[1] 甲 · p. 3（規程/甲.pdf）\n[2] 乙 · p. 3（規程/乙.pdf）");
});

test("offsets in characters survive characters outside the BMP", () => {
  const text = "𠮷田さんの🍣代";
  const at = unitsAt(text, 6);
  expect(text.slice(at, unitsAt(text, 7))).toBe("代");
  expect(unitsAt(text, 99)).toBe(text.length);
  expect(unitsAt(text, -1)).toBe(0);
  expect(charactersIn(text)).toBe(7);
});

describe("a citation's words", () => {
  const text = "第12条（宿泊費）\n宿泊費は、𠮷野を含め、1泊につき13,000円を上限とする。ただし別に定める。\n会議室 | 階 | 定員\n第2会議室 | 5 | 12 | 65インチ";
  const passage = {
    withdrawn: false, n: 1, document_id: "d", chunk_id: 1, source: "s", uri: "u", title: "甲", within: null, label: "", text,
    start: 100, end: 100 + charactersIn(text), score: 1, relevance: null, modified_at: null, version: null, confidentiality: null,
  } as unknown as Passage;
  const of = (words: string, start = 100 + charactersIn(text.slice(0, text.indexOf(words)))): Citation => ({
    ...citation(1, "甲"),
    quote: words,
    span: { start, end: start + charactersIn(words) },
  });

  test("stand in their sentence, or in their row", () => {
    expect(quoted(of("13,000円"), [passage])).toEqual(["宿泊費は、𠮷野を含め、1泊につき", "13,000円", "を上限とする。"]);
    expect(quoted(of("12 | 65"), [passage])).toEqual(["第2会議室 | 5 | ", "12 | 65", "インチ"]);
  });

  test("stand alone where they are the sentence, or the passage is another one or gone", () => {
    for (const words of ["ただし別に定める。", "ただし別に定める", "第12条（宿泊費）"]) expect(quoted(of(words), [passage])).toEqual(["", words, ""]);
    expect(quoted(of("13,000円"), [])).toEqual(["", "13,000円", ""]);
    expect(quoted(of("13,000円", 3), [passage])).toEqual(["", "13,000円", ""]);
    expect(quoted(of("13,000円", 105), [passage])).toEqual(["", "13,000円", ""]);
  });

  test("of a long sentence have what is near them", () => {
    const long = { ...passage, text: `${"前".repeat(200)}核心${"後".repeat(200)}` };
    const [before, words, after] = quoted({ ...of("核心", 300), marker: 1 }, [long]);
    expect([before.length, words, after.length]).toEqual([61, "核心", 101]);
  });
});
