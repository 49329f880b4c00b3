import { expect, test } from "vitest";
import { parse, shown } from "../src/admin/synonyms";

test("a line is a group, however its words are parted", () => {
  expect(parse("就規、就業規則\nPO, 発注書 ,購買依頼\r\n\n  \nVPN\t社外接続\nA = B＝C")).toEqual([
    ["就規", "就業規則"],
    ["PO", "発注書", "購買依頼"],
    ["VPN", "社外接続"],
    ["A", "B", "C"],
  ]);
  expect(parse("")).toEqual([]);
});

test("what is shown is read back as it was", () => {
  const groups = [["就規", "就業規則"], ["PO", "発注書"]];
  expect(parse(shown(groups))).toEqual(groups);
});
