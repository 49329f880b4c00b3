import { Fragment, type RefObject } from "react";
import type { Document } from "../api/types";
import { unitsAt } from "../shared/characters";
import { tables, type Reach, type Table } from "./blocks";
import type { Place } from "./citations";
import { TableOf } from "./TableOf";

type Target = RefObject<HTMLElement | null>;

/** The text of a document, its tables drawn as such and what is cited marked; `target` is where that begins. */
export function SourceText({ parts, target }: { parts: readonly Part[]; target: Target }) {
  const places = parts.flatMap((part, i) => (part.kind === "place" ? [i] : []));
  return [-1, ...places].map((at, i) => (
    <Fragment key={at}>
      {at >= 0 && <span className="sourceMark">{parts[at]?.text}</span>}
      <Stretch parts={parts.slice(at + 1, places[i])} target={target} />
    </Fragment>
  ));
}

/** What stands between two places of a document: no table goes from one page to the next. */
function Stretch({ parts, target }: { parts: readonly Part[]; target: Target }) {
  const shape = laid(parts);
  const draw = (reach: Reach) =>
    runs(parts, reach).map((run) => <Run key={run.from} run={run} target={run.from === shape.aim ? target : undefined} />);
  return shape.pieces.map((piece) =>
    piece.kind === "table" ? <TableOf key={piece.from} table={piece} part={draw} /> : <Fragment key={piece.from}>{draw(piece)}</Fragment>,
  );
}

function Run({ run, target }: { run: Part; target?: Target | undefined }) {
  if (run.kind === "cited")
    return (
      <mark className="cited" ref={target}>
        {run.text}
      </mark>
    );
  if (run.kind === "passage")
    return (
      <span className="passage" ref={target}>
        {run.text}
      </span>
    );
  return run.text;
}

type Piece = Table | ({ kind: "text" } & Reach);

/** Tables and what stands between them, in order, and where the first of what is aimed at is seen. */
export function laid(parts: readonly Part[]): { pieces: Piece[]; aim: number } {
  const text = parts.map((part) => part.text).join("");
  const pieces: Piece[] = [];
  let from = 0;
  for (const table of tables(text)) {
    if (table.from > from) pieces.push({ kind: "text", from, to: table.from });
    pieces.push(table);
    from = table.to + 1; // the end of its last line is the table's own
  }
  if (from < text.length) pieces.push({ kind: "text", from, to: text.length });
  const seen = pieces.flatMap((piece): Reach[] => (piece.kind === "table" ? [...(piece.head ?? []), ...piece.rows.flat()] : [piece]));
  const aim = seen.flatMap((reach) => runs(parts, reach)).find((run) => run.target)?.from ?? -1;
  return { pieces, aim };
}

/** The parts as far as they lie within a reach, each with where it begins. */
function runs(parts: readonly Part[], { from, to }: Reach): (Part & { from: number })[] {
  let at = 0;
  return parts.flatMap((part) => {
    const start = at;
    at += part.text.length;
    const [first, last] = [Math.max(start, from), Math.min(at, to)];
    return first < last ? [{ ...part, from: first, text: part.text.slice(first - start, last - start) }] : [];
  });
}

export interface Part {
  kind: "text" | "passage" | "cited" | "place";
  text: string;
  target: boolean;
}

/** The text in parts: plain, consulted, cited; and between them the page or slide that begins there. */
export function cut(doc: Pick<Document, "text" | "offset" | "marks">, place: Pick<Place, "passage" | "span" | "quote">): { parts: Part[]; changed: boolean } {
  const { text, offset } = doc;
  const unit = (character: number) => unitsAt(text, character - offset);
  let cited = place.span ? { start: unit(place.span.start), end: unit(place.span.end) } : null;
  let changed = false;
  if (cited && place.quote && text.slice(cited.start, cited.end) !== place.quote) {
    // The document is not what it was: the words may still be there, elsewhere.
    const at = text.indexOf(place.quote);
    cited = at < 0 ? null : { start: at, end: at + place.quote.length };
    changed = at < 0;
  }
  const passage = place.passage && !changed ? { start: unit(place.passage.start), end: unit(place.passage.end) } : null;

  const places = doc.marks
    .filter((m) => m.kind === "page" || m.kind === "slide" || m.kind === "part")
    .map((m) => ({ at: m.start - offset, label: m.label }))
    .filter((m) => m.at >= 0)
    .map((m) => ({ at: unitsAt(text, m.at), label: m.label }));
  const edges = new Set([0, text.length, ...places.map((m) => m.at)]);
  for (const range of [cited, passage]) if (range) edges.add(range.start).add(range.end);
  const sorted = [...edges].filter((e) => e <= text.length).sort((a, b) => a - b);

  const within = (range: { start: number; end: number } | null, at: number) => range !== null && at >= range.start && at < range.end;
  const wanted = cited ? "cited" : "passage";
  const parts: Part[] = [];
  let aimed = false;
  for (const [i, start] of sorted.entries()) {
    for (const mark of places) if (mark.at === start && start < text.length) parts.push({ kind: "place", text: mark.label, target: false });
    const end = sorted[i + 1];
    if (end === undefined) break;
    const kind = within(cited, start) ? "cited" : within(passage, start) ? "passage" : "text";
    const target: boolean = !aimed && kind === wanted;
    aimed ||= target;
    parts.push({ kind, text: text.slice(start, end), target });
  }
  return { parts, changed };
}
