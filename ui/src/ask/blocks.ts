/**
 * The shape of an answer's lines: tables, lists, headings, code; of a document's text, its tables. Models write
 * Markdown, and documents say 「a | b」 for a row. Only shape is read from it, never a link, a picture or HTML,
 * and no character of what is said is lost: what is left out are the signs of the shape themselves.
 */

/** [from, to) of the answer, in UTF-16 units. */
export interface Reach {
  from: number;
  to: number;
}

export type Block =
  | ({ kind: "text" | "heading" | "code" } & Reach)
  | { kind: "list"; items: Item[] }
  | Table;

export interface Table extends Reach {
  kind: "table";
  head: Cell[] | null;
  rows: Cell[][];
  figures: boolean[];
}

/** `after`: a marker behind the row's last bar. */
export interface Cell extends Reach {
  text: string;
  after?: Reach;
}

/** `mark` is what stands before it, as it is shown. */
export interface Item extends Reach {
  mark: string;
  depth: number;
}

/** Signs within a line: `hidden` ones are not shown, what they enclose is `strong` or `code`. */
export interface Signs {
  hidden: readonly Reach[];
  strong: readonly Reach[];
  code: readonly Reach[];
}

type Line = Cell

const FENCE = /^\s*```/;
const HEADING = /^#{1,6}[ \u3000]+(?=\S)/;
const ITEM = /^([ \t\u3000]*)([-*+•・]|\d{1,3}[.)．）]|[(（]\d{1,3}[)）]|[①-⑳])[ \t\u3000]+(?=\S)/;
const MARKERS = /\s*(?:\[\d{1,3}\])*\s*$/;
const RULE = /^:?-{2,}:?$/;
const FIGURE = /^[-−+▲△±]?\s*[¥￥$]?\d[\d,.]*\s*\S{0,4}$/;
const DIGIT = /[\d０-９]/;
const LABEL = /^([^:\s]{1,40}): /;

export function blocks(answer: string): Block[] {
  const all = lines(answer);
  const found: Block[] = [];
  for (let n = 0; n < all.length; ) {
    const line = all[n] as Line;
    const rows = tableAt(all, n);
    if (FENCE.test(line.text)) {
      const close = all.findIndex((l, i) => i > n && FENCE.test(l.text));
      const last = close < 0 ? all.length : close;
      const [first, end] = [all[n + 1], all[last - 1]];
      if (first && last > n + 1) found.push({ kind: "code", from: first.from, to: (end as Line).to });
      n = last + 1;
    } else if (rows > 0) {
      found.push(table(all.slice(n, n + rows)));
      n += rows;
    } else if (HEADING.test(line.text)) {
      const sign = HEADING.exec(line.text)?.[0].length ?? 0;
      found.push({ kind: "heading", from: line.from + sign, to: line.to });
      n += 1;
    } else if (ITEM.test(line.text)) {
      const items: Item[] = [];
      for (; n < all.length && ITEM.test((all[n] as Line).text); n += 1) items.push(item(all[n] as Line));
      found.push({ kind: "list", items });
    } else {
      const before = found.at(-1);
      if (before?.kind === "text") before.to = line.to;
      else if (line.text.trim()) found.push({ kind: "text", from: line.from, to: line.to });
      n += 1;
    }
  }
  return found.map((b) => (b.kind === "text" ? { ...b, to: b.from + answer.slice(b.from, b.to).trimEnd().length } : b));
}

/** The tables of a document's text: what else it says is no Markdown. */
export function tables(text: string): Table[] {
  const all = lines(text);
  const found: Table[] = [];
  for (let n = 0; n < all.length; ) {
    const rows = tableAt(all, n);
    if (rows > 0) found.push(table(all.slice(n, n + rows)));
    n += Math.max(rows, 1);
  }
  return found;
}

/** What is strong, and what is code, outside blocks of code. Asterisks that multiply stay what they are. */
export function signs(answer: string, whole: readonly Block[]): Signs {
  const blocks = whole.flatMap((b) => (b.kind === "code" ? [b] : []));
  const free = (at: number) => !blocks.some((b) => b.from <= at && at < b.to);
  const found = { hidden: [] as Reach[], strong: [] as Reach[], code: [] as Reach[] };
  for (const match of answer.matchAll(/(`)([^`\n]+)`|(?<![\w*])(\*\*)(?=\S)([^*\n]+)(?<=\S)\*\*(?![\d*])/g)) {
    if (!free(match.index)) continue;
    const sign = (match[1] ?? match[3] ?? "").length;
    const [from, to] = [match.index + sign, match.index + match[0].length - sign];
    found.hidden.push({ from: match.index, to: from }, { from: to, to: to + sign });
    found[match[1] ? "code" : "strong"].push({ from, to });
  }
  return found;
}

function lines(answer: string): Line[] {
  let from = 0;
  return answer.split("\n").map((text) => {
    const line = { text, from, to: from + text.length };
    from = line.to + 1;
    return line;
  });
}

function item(line: Line): Item {
  const [whole, indent, sign] = ITEM.exec(line.text) as unknown as [string, string, string];
  const bullet = "*+".includes(sign) || (sign === "-" && !DIGIT.test(line.text[whole.length] ?? ""));
  return { mark: bullet ? "・" : sign, depth: Math.min(3, Math.floor(indent.length / 2)), from: line.from + whole.length, to: line.to };
}

/** How many lines from there on are rows of one table; 0 if it is none. */
function tableAt(all: readonly Line[], n: number): number {
  const wide = cells(all[n] as Line).length;
  if (wide < 2) return 0;
  let rows = 0;
  for (const line of all.slice(n)) {
    if (cells(line).length !== wide) break;
    rows += 1;
  }
  return rows < 2 ? 0 : rows;
}

function table(lines: readonly Line[]): Table {
  const rows = lines.filter((line, n) => n !== 1 || !isRule(line)).map(cells);
  const ruled = rows.length < lines.length;
  const [first = [], ...rest] = rows;
  const counts = (row: readonly Cell[]) => row.some((c) => FIGURE.test(c.text.replace(MARKERS, "")));
  const named = (some: readonly Cell[][], names: readonly string[]) =>
    some.length > 0 && some.every((row) => row.every((c, n) => names[n] !== "" && c.text.startsWith(`${names[n]}: `)));
  const above = first.map((c) => c.text);
  const headed = ruled || named(rest, above) || (!counts(first) && rest.some(counts));
  const names = headed ? above : first.map((c) => LABEL.exec(c.text)?.[1] ?? "");
  const labelled = named(headed ? rest : rows, names);
  const head = headed ? first : labelled ? first.map((c, n) => ({ ...c, to: c.from + (names[n] as string).length })) : null;
  const body = (headed ? rest : rows).map((row) => (labelled ? row.map((c, n) => behind(c, (names[n] as string).length + 2)) : row));
  const figures = first.map((_, n) => body.length > 0 && body.every((row) => FIGURE.test((row[n] as Cell).text.replace(MARKERS, ""))));
  const [from, to] = [(lines[0] as Line).from, (lines.at(-1) as Line).to];
  return { kind: "table", from, to, head, rows: body, figures };
}

const behind = (cell: Cell, by: number): Cell => ({ ...cell, from: cell.from + by, text: cell.text.slice(by) });

const isRule = (line: Line): boolean => cells(line).every((c) => RULE.test(c.text));

/** Of a row 「a | b」 or 「| a | b |」; one cell where it is no row. */
function cells(line: Line): Cell[] {
  const bare = line.text.replace(MARKERS, "");
  const framed = /^\s*\|.*\|$/.test(bare);
  const bars = [...line.text.matchAll(framed ? /\|/g : / \| ?/g)].map((m) => ({ from: m.index, to: m.index + m[0].length }));
  const edges = framed ? bars.slice(1, -1) : bars;
  const starts = [framed ? line.text.indexOf("|") + 1 : 0, ...edges.map((b) => b.to)];
  const ends = [...edges.map((b) => b.from), framed ? bare.length - 1 : line.text.length];
  const found: Cell[] = starts.map((start, n) => {
    const text = line.text.slice(start, ends[n]);
    const from = line.from + start + text.length - text.trimStart().length;
    return { from, to: from + text.trim().length, text: text.trim() };
  });
  const last = found.at(-1);
  if (framed && last && bare.length < line.text.length) last.after = { from: line.from + bare.length, to: line.to };
  return found;
}
