import { principalName } from "../documents/UploadsPage";
import type { Say } from "../shared/text";

/** A principal of a way as people call it: an entry of a directory by its name there. */
export function nodeName(principal: string, names: Readonly<Record<string, string>>, say: Say): string {
  return names[principal] ?? principalName(principal, say);
}

/** From the person on, without the person; names that follow each other and are alike said once. */
export function wayWords(way: readonly string[], names: Readonly<Record<string, string>>, say: Say): string {
  const words = way.slice(1).map((one) => nodeName(one, names, say));
  return words.filter((word, i) => word !== words[i - 1]).join(" → ");
}
