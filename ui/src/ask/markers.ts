/** An answer is plain text; the only thing in it that is more than text is a marker such as `[2]`. */

/** `from`: where the text, or the marker, stands in the answer. */
export type Segment = { text: string; from: number } | { marker: number; occurrence: number; from: number };

const MARKER = /\[(\d{1,3})\]/g;
const HALF = /\[\d{0,3}$/;

/**
 * Text and markers in order. `occurrence` counts how often a marker was seen before.
 * Only markers in `known` are markers: the rest stays text. While `streaming`, a marker that has
 * only half arrived is held back so that it does not flicker.
 */
export function segments(answer: string, known: ReadonlySet<number>, streaming = false): Segment[] {
  const shown = streaming ? answer.replace(HALF, "") : answer;
  const found: Segment[] = [];
  const seen = new Map<number, number>();
  let text = "";
  let from = 0;
  let textFrom = 0;
  for (const match of shown.matchAll(MARKER)) {
    const marker = Number(match[1]);
    if (!known.has(marker)) continue;
    text += shown.slice(from, match.index);
    if (text) found.push({ text, from: textFrom });
    text = "";
    textFrom = match.index + match[0].length;
    const occurrence = seen.get(marker) ?? 0;
    seen.set(marker, occurrence + 1);
    found.push({ marker, occurrence, from: match.index });
    from = match.index + match[0].length;
  }
  text += shown.slice(from);
  if (text) found.push({ text, from: textFrom });
  return found;
}

/** Those of a part of the answer; text that reaches beyond it is cut. */
export function between(all: readonly Segment[], from: number, to: number): Segment[] {
  return all.flatMap((s): Segment[] => {
    if (!("text" in s)) return from <= s.from && s.from < to ? [s] : [];
    const [start, end] = [Math.max(s.from, from), Math.min(s.from + s.text.length, to)];
    return start < end ? [{ text: s.text.slice(start - s.from, end - s.from), from: start }] : [];
  });
}
