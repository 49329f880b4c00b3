import type { Statement } from "../api/types";
import { unitsAt } from "../shared/characters";
import type { Reach, Signs } from "./blocks";

/** A piece of text of one kind. `unbacked`: no source says so; `doubt`: not even this number or name is there. */
export interface Run {
  text: string;
  unbacked: boolean;
  doubt: boolean;
  strong: boolean;
  code: boolean;
}

const NO_SIGNS: Signs = { hidden: [], strong: [], code: [] };

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

/** `text` stands in the answer at `from`; cut wherever its kind changes, without what only says of which kind it is. */
export function runs(text: string, from: number, where: Unbacked, signs: Signs = NO_SIGNS): Run[] {
  const to = from + text.length;
  const all = [...where.sentences, ...where.doubts, ...signs.hidden, ...signs.strong, ...signs.code];
  const cuts = all.flatMap((r) => [r.from, r.to]).filter((at) => at > from && at < to);
  const places = [...new Set([from, ...cuts, to])].sort((a, b) => a - b);
  const within = (some: readonly Reach[], at: number) => some.some((r) => r.from <= at && at < r.to);
  return places.slice(0, -1).flatMap((at, n) => {
    if (within(signs.hidden, at)) return [];
    const part = text.slice(at - from, (places[n + 1] as number) - from);
    const [unbacked, doubt] = [within(where.sentences, at), within(where.doubts, at)];
    return [{ text: part, unbacked, doubt, strong: within(signs.strong, at), code: within(signs.code, at) }];
  });
}
