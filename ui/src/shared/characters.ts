/**
 * Offsets from the server count characters (code points); JavaScript counts UTF-16 units.
 * 𠮷 is one of the former and two of the latter, so offsets are converted once, here.
 */

/** The UTF-16 position of character number `count` of `text`, clamped to the text. */
export function unitsAt(text: string, count: number): number {
  if (count <= 0) return 0;
  let units = 0;
  let seen = 0;
  while (units < text.length && seen < count) {
    const code = text.codePointAt(units) as number;
    units += code > 0xffff ? 2 : 1;
    seen += 1;
  }
  return units;
}

export function charactersIn(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
