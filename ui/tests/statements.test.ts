import { describe, expect, it } from "vitest";
import { runs, unbacked } from "../src/ask/statements";

const answer = "𠮷野が受付。額は9万円[1]。";
const where = unbacked(answer, [
  { start: 0, end: 6, supported: true, doubts: [] },
  { start: 6, end: 15, supported: false, doubts: [{ start: 8, end: 9 }] },
]);

describe("statements", () => {
  it("cuts a text where what backs it changes, counting characters as the server does", () => {
    const found = runs("𠮷野が受付。額は9万円", 0, where);
    expect(found).toEqual([
      { text: "𠮷野が受付。", unbacked: false, doubt: false, strong: false, code: false },
      { text: "額は", unbacked: true, doubt: false, strong: false, code: false },
      { text: "9", unbacked: true, doubt: true, strong: false, code: false },
      { text: "万円", unbacked: true, doubt: false, strong: false, code: false },
    ]);
  });

  it("goes on after a marker", () => {
    expect(runs("。", answer.length - 1, where)).toEqual([{ text: "。", unbacked: true, doubt: false, strong: false, code: false }]);
  });

  it("leaves an answer alone that is backed", () => {
    expect(runs("はい。", 0, unbacked("はい。", []))).toEqual([{ text: "はい。", unbacked: false, doubt: false, strong: false, code: false }]);
  });
});
