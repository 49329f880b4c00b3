import { describe, expect, test } from "vitest";
import { blocks, signs, type Block, type Reach } from "../src/ask/blocks";
import { between, segments } from "../src/ask/markers";
import { runs } from "../src/ask/statements";

/** What one sees of each block. */
function seen(answer: string): unknown[] {
  const said = (r: Reach) => answer.slice(r.from, r.to);
  return blocks(answer).map((b) => {
    if (b.kind === "list") return b.items.map((i) => `${i.mark}${"_".repeat(i.depth)} ${said(i)}`);
    if (b.kind === "table") return { head: b.head?.map(said) ?? null, rows: b.rows.map((r) => r.map((c) => said(c) + (c.after ? said(c.after) : ""))), figures: b.figures };
    return `${b.kind}: ${said(b)}`;
  });
}

const bare = (answer: string) => {
  const shown = signs(answer, blocks(answer));
  return runs(answer, 0, { sentences: [], doubts: [] }, shown).map((r) => (r.strong ? `<${r.text}>` : r.code ? `{${r.text}}` : r.text)).join("");
};

describe("the shape of an answer", () => {
  test("plain words stay one paragraph, lines and all", () => {
    expect(seen("第13条（日当）\n1　日当は、次の表による。\n\n2　次項")).toEqual(["text: 第13条（日当）\n1　日当は、次の表による。\n\n2　次項"]);
    expect(seen("")).toEqual([]);
    expect(seen("\n\n13,000円[1]\n")).toEqual(["text: 13,000円[1]"]);
  });

  test("rows of a document become a table, its names above, figures to the right", () => {
    expect(seen("次の額とする。\n区分 | 日帰り | 宿泊（1日につき）\n役員 | 2,000円 | 4,000円\n一般社員 | 1,200円 | 2,500円[1]\n2　ただし")).toEqual([
      "text: 次の額とする。",
      { head: ["区分", "日帰り", "宿泊（1日につき）"], rows: [["役員", "2,000円", "4,000円"], ["一般社員", "1,200円", "2,500円[1]"]], figures: [false, true, true] },
      "text: 2　ただし",
    ]);
  });

  test("rows that name their columns each say the name once", () => {
    const rows = "品番: KP-1 | 在庫: 12 個\n品番: KP-2 | 在庫: 3 個";
    const table = { head: ["品番", "在庫"], rows: [["KP-1", "12 個"], ["KP-2", "3 個"]], figures: [false, true] };
    expect(seen(rows)).toEqual([table]);
    expect(seen(`品番 | 在庫\n${rows}`)).toEqual([table]);
    expect(seen("品番: KP-1 | 在庫: 12 個\n品番: KP-2 | 単価: 3 円")).toEqual([
      { head: null, rows: [["品番: KP-1", "在庫: 12 個"], ["品番: KP-2", "単価: 3 円"]], figures: [false, false] },
    ]);
  });

  test("a table as models write it, its markers with it", () => {
    expect(seen("| 区分 | 日当 |\n|---|:---:|\n| 役員 | 4,000円[1] |\n| 社員 |  |[2]\n\n以上です。")).toEqual([
      { head: ["区分", "日当"], rows: [["役員", "4,000円[1]"], ["社員", "[2]"]], figures: [false, false] },
      "text: 以上です。",
    ]);
  });

  test("one row, rows of different width, and a bar in a sentence are no table", () => {
    for (const said of ["役員 | 2,000円", "a | b\nc | d | e", "ps aux | grep kura を実行する。\nそれから再起動する。"]) {
      expect(seen(said)).toEqual([`text: ${said}`]);
    }
  });

  test("lists keep their numbers, a minus sign stays one", () => {
    expect(seen("- 赤\n  - 紺\n* 青\n・緑\n- 5 ℃")).toEqual([["・ 赤", "・_ 紺", "・ 青"], "text: ・緑", ["- 5 ℃"]]);
    expect(seen("3. 申請する\n5) 待つ\n（2） 戻す")).toEqual([["3. 申請する", "5) 待つ", "（2） 戻す"]]);
  });

  test("headings and code", () => {
    expect(seen("## 手順[1]\n```sh\n# 消す\nrm a | b\nrm c | d\n```\n終わり")).toEqual(["heading: 手順[1]", "code: # 消す\nrm a | b\nrm c | d", "text: 終わり"]);
    expect(seen("```\n書きかけ")).toEqual(["code: 書きかけ"]);
    expect(seen("#5 の棚")).toEqual(["text: #5 の棚"]);
  });

  test("strong words and code within a line; what multiplies is no sign", () => {
    expect(bare("上限は**13,000円**[1]です。`kura doctor`を実行")).toBe("上限は<13,000円>[1]です。{kura doctor}を実行");
    for (const said of ["2**3**4", "10*20*30 mm", "a ** b ** c", "**", "`", "KP_2200_A", "~~5~~"]) expect(bare(said)).toBe(said);
    expect(bare("```\na **b** c\n```")).toBe("```\na **b** c\n```");
  });

  test("no word of an answer is lost or said twice, however it is cut", () => {
    const answer = "# 表\n\n前書き**強い**[1]。\n区分 | 額\n役員 | 2円\n社員 | 1円[2]\n- a[1]\n1. `b`\n```\nx\n```\n|e|f|\n|-|-|\n|1|2|[1]\n終";
    for (let n = 0; n <= answer.length; n += 1) {
      const said = answer.slice(0, n);
      const all = segments(said, new Set([1, 2]), true);
      const reach = (b: Block): Reach[] => (b.kind === "list" ? b.items : b.kind === "table" ? [...(b.head ?? []), ...b.rows.flat()].flatMap((c) => (c.after ? [c, c.after] : [c])) : [b]);
      const parts = blocks(said).flatMap(reach);
      const mark = (r: Reach) => ("mark" in r ? String(r.mark) : "");
      const shown = parts.map((r) => mark(r) + between(all, r.from, r.to).map((s) => ("text" in s ? s.text : `[${s.marker}]`)).join("")).join("");
      const words = (text: string) => text.replace(/\[\d*$/, "").replace(/[^ぁ-んァ-ヶ一-龠a-f0-9[\]]/g, "");
      expect(words(shown)).toBe(words(said));
      for (const [i, r] of parts.entries()) if (i) expect(r.from).toBeGreaterThanOrEqual((parts[i - 1] as Reach).to);
    }
  });
});
