import type { Statement } from "../api/types";
import { unitsAt } from "../shared/characters";

/** A piece of text of one kind. `unbacked`: no source says so; `doubt`: not even this number or name is there. */
export interface Run {
  text: string;
  unbacked: boolean;
  doubt: boolean;
}

interface Reach {
  from: number;
  to: number;
}

/** Where the answer is not backed, in UTF-16 units. */
export interface Unbacked {
  sentences: readonly Reach[];
  doubts: readonly Reach[];
}

export function unbacked(answer: string, statements: readonly Statement[]): Unbacked {
  const reach = (s: { start: number; end: number }) => ({ from: unitsAt(answer, s.start), to: unitsAt(answer, s.end) });
  const open = statements.filter((s) => !s.supported);
  return { sentences: open.map(reach), doubts: open.flatMap((s) => s.doubts.map(reach)) };
}

/** `text` stands in the answer at `from`; cut wherever its kind changes. */
export function runs(text: string, from: number, where: Unbacked): Run[] {
  const to = from + text.length;
  const cuts = [...where.sentences, ...where.doubts].flatMap((r) => [r.from, r.to]).filter((at) => at > from && at < to);
  const places = [...new Set([from, ...cuts, to])].sort((a, b) => a - b);
  const within = (all: readonly Reach[], at: number) => all.some((r) => r.from <= at && at < r.to);
  return places.slice(0, -1).map((at, n) => ({
    text: text.slice(at - from, (places[n + 1] as number) - from),
    unbacked: within(where.sentences, at),
    doubt: within(where.doubts, at),
  }));
}
