import { expect, test } from "vitest";
import { documentPath, readDocumentPath } from "../src/documents/paths";

test("a document's address says which page or which words are meant, and is read back", () => {
  const id = "a/あ";
  expect(readDocumentPath(documentPath(id))).toEqual({ id, page: null, words: null });
  expect(readDocumentPath(documentPath(id, 3))).toEqual({ id, page: 3, words: null });
  expect(readDocumentPath(documentPath(id, { start: 0, end: 12 }))).toEqual({ id, page: null, words: { start: 0, end: 12 } });
});

test("what is no address of a document is none", () => {
  for (const path of ["/", "/d/", "/d/x/p/0", "/d/x/p/-1", "/d/x/p/1e3", "/d/x/at/5-", "/d/x/at/a-b", "/d/x/q/1", "/documents"]) {
    expect(readDocumentPath(path)).toBeNull();
  }
});
