import { describe, expect, test } from "vitest";
import { cut, laid } from "../src/ask/SourceText";
import { fieldsOf, shown, taken } from "../src/sources/schema";

const TEXT = "𠮷の章。宿泊費は一万円。日当は二千円。";
const at = (words: string) => {
  const units = TEXT.indexOf(words);
  const start = [...TEXT.slice(0, units)].length;
  return { start, end: start + [...words].length };
};

describe("a source cut into parts", () => {
  const doc = { text: TEXT, offset: 0, marks: [] };

  test("marks the supporting words inside what was consulted", () => {
    const { parts, changed } = cut(doc, { passage: at("宿泊費は一万円。"), span: at("一万円"), quote: "一万円" });
    expect(changed).toBe(false);
    expect(parts.map((p) => [p.kind, p.text])).toEqual([
      ["text", "𠮷の章。"],
      ["passage", "宿泊費は"],
      ["cited", "一万円"],
      ["passage", "。"],
      ["text", "日当は二千円。"],
    ]);
    expect(parts.filter((p) => p.target).map((p) => p.text)).toEqual(["一万円"]);
  });

  test("finds the words again where the text has moved", () => {
    const { parts, changed } = cut(doc, { passage: null, span: { start: 0, end: 3 }, quote: "日当は二千円" });
    expect(changed).toBe(false);
    expect(parts.find((p) => p.kind === "cited")?.text).toBe("日当は二千円");
  });

  test("says so when the words are no longer there, and marks nothing", () => {
    const { parts, changed } = cut(doc, { passage: at("宿泊費"), span: at("一万円"), quote: "九千円" });
    expect(changed).toBe(true);
    expect(parts.every((p) => p.kind === "text")).toBe(true);
  });

  test("a window of a document: offsets count from its beginning", () => {
    const start = [...TEXT.slice(0, TEXT.indexOf("宿泊費"))].length;
    const window = { text: TEXT.slice(TEXT.indexOf("宿泊費")), offset: start, marks: [] };
    const { parts } = cut(window, { passage: null, span: at("一万円"), quote: "一万円" });
    expect(parts.find((p) => p.kind === "cited")?.text).toBe("一万円");
  });

  test("pages and slides are shown where they begin; the text stays whole", () => {
    const mark = (start: number, label: string, kind: "page" | "section") => ({ start, label, kind, page: null, level: 0 });
    const marks = [mark(0, "p. 1", "page"), mark(5, "p. 2", "page"), mark(6, "第1条", "section")];
    const { parts } = cut({ ...doc, marks }, { passage: null, span: null, quote: "" });
    expect(parts.filter((p) => p.kind === "place").map((p) => p.text)).toEqual(["p. 1", "p. 2"]);
    expect(parts.filter((p) => p.kind !== "place").map((p) => p.text).join("")).toBe(TEXT);
  });
});

describe("a document's text laid out", () => {
  const TABLE = "第13条（日当）\n区分 | 日当\n役員 | 5,000円\n一般社員 | 2,500円\n以上。";
  const cited = (words: string, text = TABLE) => {
    const at = text.indexOf(words);
    const { parts } = cut({ text, offset: 0, marks: [] }, { passage: null, span: { start: at, end: at + words.length }, quote: words });
    return laid(parts);
  };

  test("its tables are drawn, and the lines around them stay", () => {
    const { pieces } = cited("2,500円");
    expect(pieces.map((p) => p.kind)).toEqual(["text", "table", "text"]);
    expect(pieces.map((p) => TABLE.slice(p.from, p.to))).toEqual(["第13条（日当）\n", "区分 | 日当\n役員 | 5,000円\n一般社員 | 2,500円", "以上。"]);
  });

  test("what is cited is brought into view where it is seen first", () => {
    expect(cited("2,500円").aim).toBe(TABLE.indexOf("2,500円"));
    expect(cited(" | 2,500円").aim).toBe(TABLE.indexOf("2,500円")); // the bar itself is not drawn
    expect(cited("（日当）\n区分 | 日当").aim).toBe(TABLE.indexOf("（日当）"));
    expect(cited("ない").aim).toBe(-1);
  });

  test("a row whose cells say their columns is cited by what is seen of it", () => {
    const rows = "品番: P-24 | 単価: 300\n品番: P-25 | 単価: 450";
    expect(cited("品番: P-25 | 単価: 450", rows).aim).toBe(rows.indexOf("P-25"));
  });
});

describe("settings of a source from their JSON Schema", () => {
  const schema = {
    required: ["root"],
    properties: {
      root: { type: "string", title: "Root" },
      allow: { type: "array", items: { type: "string" }, default: ["everyone"] },
      depth: { anyOf: [{ type: "integer" }, { type: "null" }], default: null },
      mode: { $ref: "#/$defs/Mode" },
      query: { type: "string", title: "問い合わせ", format: "multiline" },
      password: { type: "string" },
      follow: { type: "boolean", default: true },
    },
    $defs: { Mode: { enum: ["fast", "whole"], type: "string" } },
  };
  const fields = fieldsOf(schema, "ja");

  test("each becomes the field that fits", () => {
    expect(Object.fromEntries(fields.map((f) => [f.name, f.kind]))).toEqual({
      root: "text",
      allow: "lines",
      depth: "number",
      mode: "choice",
      query: "text area",
      password: "secret",
      follow: "flag",
    });
    expect(fields.filter((f) => f.required).map((f) => f.name)).toEqual(["root"]);
  });

  test("what is shown and what is sent are the same value", () => {
    const values: Record<string, unknown> = { root: "/srv/規程", allow: ["group:総務部", "everyone"], depth: 3, mode: "whole", query: "SELECT 1 -- 一\nFROM 表", password: " 空白も ", follow: false };
    for (const field of fields) expect(taken(field, shown(field.kind, values[field.name])), field.name).toEqual(values[field.name]);
  });

  test("English is shown where it stands, else the Japanese", () => {
    const shares = {
      properties: {
        mode: { enum: ["a"], title: "方式", title_en: "Mode", description: "選びます。", description_en: "Choose.", labels: { a: "甲" }, labels_en: { a: "A" } },
        other: { type: "string", title: "よその設定", description: "よその説明。" },
      },
    };
    const told = (language: "ja" | "en") => fieldsOf(shares, language).map((f) => [f.title, f.description, f.labels["a"]]);
    expect(told("en")).toEqual([["Mode", "Choose.", "A"], ["よその設定", "よその説明。", undefined]]);
    expect(told("ja")).toEqual([["方式", "選びます。", "甲"], ["よその設定", "よその説明。", undefined]]);
  });

  test("an empty optional field is left out", () => {
    expect(taken(fields[2] as (typeof fields)[number], "")).toBeUndefined();
  });
});
