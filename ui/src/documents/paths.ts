import { match } from "../shared/router";

/** Where a document's page is: `/d/ID`, `/d/ID/p/3` at a page, `/d/ID/at/120-136` at words of its text. */

export interface Words {
  start: number;
  end: number;
}

export interface DocumentAt {
  id: string;
  page: number | null;
  words: Words | null;
}

export function documentPath(id: string, at: number | Words | null = null): string {
  const base = `/d/${encodeURIComponent(id)}`;
  if (at === null) return base;
  return typeof at === "number" ? `${base}/p/${at}` : `${base}/at/${at.start}-${at.end}`;
}

export function readDocumentPath(path: string): DocumentAt | null {
  const plain = match("/d/:id", path) ?? match("/d/:id/p/:page", path) ?? match("/d/:id/at/:words", path);
  if (!plain?.["id"]) return null;
  const { id, page, words } = plain;
  const range = /^(\d{1,9})-(\d{1,9})$/.exec(words ?? "");
  if ((page && !/^[1-9]\d{0,6}$/.test(page)) || (words && !range)) return null;
  return { id, page: page ? Number(page) : null, words: range ? { start: Number(range[1]), end: Number(range[2]) } : null };
}
