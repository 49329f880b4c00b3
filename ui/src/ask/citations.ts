import type { Answer, AnyCitation, AnyPassage, Citation, Passage, Pointer } from "../api/types";
import { unitsAt } from "../shared/characters";
import type { Say } from "../shared/text";

/** A place in a document that the reader can open beside the answer. */
export interface Place {
  documentId: string;
  title: string;
  label: string;
  uri: string;
  source: string;
  /** What the model was shown, in characters of the document. */
  passage: { start: number; end: number } | null;
  /** The words that support the claim. */
  span: { start: number; end: number } | null;
  quote: string;
  supported: boolean | null;
  marker: number | null;
}

/** A file inside another by where it lies: its own name may be that of a hundred others. */
export function titleOf(document: { title: string; within?: string | null }): string {
  return document.within ?? document.title;
}

export function placeOfPassage(passage: Passage, marker: number | null = null): Place {
  return {
    documentId: passage.document_id,
    title: titleOf(passage),
    label: passage.label,
    uri: passage.uri,
    source: passage.source,
    passage: { start: passage.start, end: passage.end },
    span: null,
    quote: "",
    supported: null,
    marker,
  };
}

export function placeOf(citation: Citation, passages: readonly AnyPassage[]): Place {
  const shown = passages.filter((p) => visible<Passage>(p)).find((p) => p.n === citation.marker);
  return {
    documentId: citation.document_id,
    title: titleOf(citation),
    label: citation.label,
    uri: citation.uri,
    source: citation.source,
    passage: shown ? { start: shown.start, end: shown.end } : null,
    span: citation.span ?? null,
    quote: citation.quote,
    supported: citation.supported,
    marker: citation.marker,
  };
}

/** Where the reader pointed: nothing was checked there, so it is neither supported nor not. */
export function placeOfPointer(pointer: Pointer): Place {
  return {
    documentId: pointer.document_id,
    title: titleOf(pointer),
    label: pointer.label,
    uri: pointer.uri,
    source: pointer.source,
    passage: null,
    span: pointer.span,
    quote: pointer.quote,
    supported: null,
    marker: null,
  };
}

/** A pointer's sentence, cut where the words pointed at begin and end. Offsets count characters. */
export function pointed(pointer: Pointer): [string, string, string] {
  const characters = Array.from(pointer.quote);
  const [a, b] = [pointer.words.start - pointer.span.start, pointer.words.end - pointer.span.start];
  const part = (start: number, end?: number) => characters.slice(start, end).join("");
  return [part(0, a), part(a, b), part(b)];
}

const BEFORE = 60;
const AFTER = 100;

/**
 * A citation's words in their sentence, or in their row of a table: 「12」 alone shows nobody what it is of.
 * Only the words where they are as long as that themselves, or the passage is not at hand.
 */
export function quoted(citation: Citation, passages: readonly AnyPassage[]): [string, string, string] {
  const alone: [string, string, string] = ["", citation.quote, ""];
  const shown = passages.filter((p) => visible<Passage>(p)).find((p) => p.n === citation.marker);
  if (!shown || !citation.span) return alone;
  const { text, start } = shown;
  const [from, to] = [unitsAt(text, citation.span.start - start), unitsAt(text, citation.span.end - start)];
  if (citation.span.start < start || !citation.quote || text.slice(from, to) !== citation.quote) return alone;
  const before = text.slice(0, from).split(/[\n。]/).at(-1) ?? "";
  const after = /^[^\n。]*。?/.exec(/[\n。]$/.test(citation.quote) ? "" : text.slice(to))?.[0] ?? "";
  if (!before.trim() && !after.replace("。", "").trim()) return alone;
  const cut = (part: string, most: number) => Array.from(part).slice(0, most).join("");
  const lead = Array.from(before.trimStart());
  return [
    lead.length > BEFORE ? `…${lead.slice(-BEFORE).join("")}` : lead.join(""),
    citation.quote,
    Array.from(after).length > AFTER ? `${cut(after, AFTER)}…` : after.trimEnd(),
  ];
}

/** Of a document that has gone, or is closed to the reader now, the server tells nothing but the number. */
export function visible<T extends Citation | Passage>(given: T | { withdrawn: unknown }): given is T {
  return "document_id" in given;
}

/** The citation behind the k-th occurrence of a marker; where fewer were given, the last of them. */
export function citationAt(citations: readonly AnyCitation[], marker: number, occurrence: number): AnyCitation | null {
  const same = citations.filter((c) => c.marker === marker);
  return same[Math.min(occurrence, same.length - 1)] ?? null;
}

/** The answer as text to paste elsewhere, with where it came from. */
export function asText(answer: Pick<Answer, "answer" | "citations">, say: Say): string {
  const lines = new Map<number, string>();
  for (const c of answer.citations) {
    if (visible<Citation>(c) && !lines.has(c.marker)) {
      lines.set(c.marker, `[${c.marker}] ${[titleOf(c), c.label].filter(Boolean).join(" · ")}（${c.uri}）`);
    }
  }
  const list = [...lines.entries()].sort(([a], [b]) => a - b).map(([, line]) => line);
  return list.length ? `${answer.answer}\n\n${say("sourcesHeading")}\n${list.join("\n")}` : answer.answer;
}
