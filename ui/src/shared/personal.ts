import type { Say, TextKey } from "./text";

/** Personal data in words: how many of each kind, in the order the server gives them. */
export function personalWords(counts: Readonly<Record<string, number>>, say: Say, key: "personalCount" | "personalDocuments"): string {
  return Object.entries(counts)
    .map(([kind, n]) => say(key, { kind: say(`personal_${kind}` as TextKey), n }))
    .join("・");
}
