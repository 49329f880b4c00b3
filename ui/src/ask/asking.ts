import { useSyncExternalStore } from "react";
import { ApiError, errorFrom, headersFor, send, tellSignedOut, unreachable } from "../api/client";
import type { Answer, Passage } from "../api/types";
import { narrowed } from "./narrowing";
import { events, type ServerEvent } from "./sse";

/** The one question being answered in this tab. It goes on while the reader looks at other pages. */

export type Stage = "sending" | "searching" | "waiting" | "answering";

export interface Live {
  /** Where it was asked; null is a new conversation. */
  conversationId: string | null;
  /** The conversation the server has kept it in. */
  keptIn: string | null;
  question: string;
  stage: Stage;
  position: number | null;
  passages: Passage[];
  text: string;
  state: "running" | "answered" | "stopped" | "broken" | "failed";
  answer: Answer | null;
  error: ApiError | null;
}

let live: Live | null = null;
let controller: AbortController | null = null;
const listeners = new Set<() => void>();

function set(next: Live | null): void {
  live = next;
  for (const listener of [...listeners]) listener();
}

export function useLive(): Live | null {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => live,
  );
}

export const running = (): boolean => live?.state === "running";

/** Forget an exchange that has ended: the conversation shows it from now on. */
export function clear(): void {
  if (!running()) set(null);
}

/** The new conversation has got its address. */
export function moveTo(conversationId: string): void {
  if (live) set({ ...live, conversationId });
}

export function stop(): void {
  controller?.abort();
}

/** Ask. Resolves when the answer has ended, however it ended; never rejects. */
export async function ask(question: string, conversationId: string | null): Promise<Live> {
  controller?.abort();
  const mine = new AbortController();
  controller = mine;
  let now: Live = {
    conversationId,
    keptIn: conversationId,
    question,
    stage: "sending",
    position: null,
    passages: [],
    text: "",
    state: "running",
    answer: null,
    error: null,
  };
  const change = (part: Partial<Live>) => {
    now = { ...now, ...part };
    if (controller === mine) set(now);
  };
  change({});

  try {
    const response = await send(
      new Request("/api/v1/query", {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json", Accept: "text/event-stream", ...headersFor("POST") },
        body: JSON.stringify({ question, filter: narrowed(), ...(conversationId ? { conversation_id: conversationId } : {}) }),
        signal: mine.signal,
      }),
    );
    if (!response.ok || !response.body) {
      const body: unknown = await response.json().catch(() => null);
      throw errorFrom(body, response.status);
    }
    for await (const event of events(response.body)) take(event, change, () => now);
    if (now.state === "running") change({ state: "broken" });
  } catch (error) {
    if (mine.signal.aborted) change({ state: "stopped" });
    else if (error instanceof ApiError) change({ state: "failed", error });
    // Bytes had come: the connection broke in mid-answer.
    else if (now.stage !== "sending") change({ state: "broken" });
    else change({ state: "failed", error: unreachable() });
  }
  if (now.error?.signedOut) {
    if (controller === mine) set(null);
    tellSignedOut();
  }
  return now;
}

function take(event: ServerEvent, change: (part: Partial<Live>) => void, now: () => Live): void {
  const data: unknown = JSON.parse(event.data);
  switch (event.name) {
    case "stage": {
      const { name, position } = data as { name: Stage; position?: number | null };
      return change({ stage: name, position: position ?? null });
    }
    case "passages":
      return change({ passages: data as Passage[] });
    case "piece":
      return change({ stage: "answering", text: now().text + (data as { text: string }).text });
    case "answer": {
      const answer = data as Answer;
      return change({ state: "answered", answer, text: answer.answer, keptIn: answer.conversation_id });
    }
    case "error":
      // What there was of the answer may have been kept, in a conversation made for it.
      return change({
        state: "failed",
        error: errorFrom(data, (data as { error?: string }).error === "NotSignedIn" ? 401 : 503),
        keptIn: (data as { conversation_id?: string | null }).conversation_id ?? now().keptIn,
      });
  }
}
