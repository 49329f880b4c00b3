import { useCallback, useEffect, useRef, useState } from "react";

export interface Loaded<T> {
  data: T | null;
  error: unknown;
  loading: boolean;
  reload: () => void;
}

/** Runs `load` at once, whenever `deps` change, on `reload`, and every `everyMs` while the page is seen. */
export function useLoad<T>(load: () => Promise<T>, deps: readonly unknown[], everyMs?: number): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: unknown; loading: boolean }>({
    data: null,
    error: null,
    loading: true,
  });
  const latest = useRef(load);
  latest.current = load;
  const turn = useRef(0);

  const run = useCallback(() => {
    const mine = ++turn.current;
    setState((old) => ({ ...old, loading: true }));
    latest.current().then(
      (data) => mine === turn.current && setState({ data, error: null, loading: false }),
      (error: unknown) => mine === turn.current && setState((old) => ({ data: old.data, error, loading: false })),
    );
  }, []);

  useEffect(() => {
    run();
    return () => {
      turn.current += 1;
    };
    // eslint-style exhaustive lists do not apply: the caller names what matters
  }, [run, ...deps]);

  useEffect(() => {
    if (!everyMs) return;
    const timer = window.setInterval(() => {
      if (document.visibilityState === "visible") run();
    }, everyMs);
    return () => window.clearInterval(timer);
  }, [run, everyMs]);

  return { ...state, reload: run };
}
