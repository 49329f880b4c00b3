/** A stretch of a text, and whether the other text lacks it. */
export interface Stretch {
  text: string;
  other: boolean;
}

/** Characters of each; beyond, too much work for a browser, and the rest of a page is told apart line by line. */
const MOST = 3_000;

/** Two texts as what they share and what only one has: their longest common subsequence, blanks aside. */
export function differences(one: string, other: string): [Stretch[], Stretch[]] {
  const split = [...one].length > MOST || [...other].length > MOST ? /(?<=\n)/ : /(?:)/u;
  const a = one.split(split);
  const b = other.split(split);
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  const at = (i: number, j: number) => longest[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const left: Stretch[] = [];
  const right: Stretch[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add(left, a[i++] ?? "", false);
      add(right, b[j++] ?? "", false);
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) add(left, a[i++] ?? "", true);
    else add(right, b[j++] ?? "", true);
  }
  return [left, right];
}

function add(stretches: Stretch[], text: string, other: boolean) {
  const differs = other && text.trim() !== "";
  const last = stretches.at(-1);
  if (last && (last.other === differs || text.trim() === "")) last.text += text;
  else stretches.push({ text, other: differs });
}
