import { useSyncExternalStore } from "react";
import type { Filter } from "../api/types";

/** Which documents the next questions are asked of. It stays until it is changed, in this tab. */

export const ALL: Filter = { sources: [], types: [], modified_from: null, modified_to: null };

let wanted: Filter = ALL;
const listeners = new Set<() => void>();

export const narrowed = (): Filter => wanted;

export const isNarrow = (f: Filter): boolean => f.sources.length > 0 || f.types.length > 0 || !!f.modified_from || !!f.modified_to;

export function narrow(next: Filter): void {
  wanted = next;
  for (const listener of [...listeners]) listener();
}

export function useNarrowing(): Filter {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => wanted,
  );
}
