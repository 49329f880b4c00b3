import { useSyncExternalStore } from "react";
import { ApiError, api, errorFrom, headersFor, send, tellSignedOut, unreachable, unwrap } from "../api/client";
import type { Answer, Begun, Passage } from "../api/types";
import { narrowed } from "./narrowing";
import { events, type ServerEvent } from "./sse";

/**
 * The one question whose answer this tab listens to. It goes on while the reader looks at other pages;
 * when nobody listens any more the server finishes it, and the conversation shows it.
 */

export type Stage = "sending" | "searching" | "waiting" | "answering";

export interface Live {
  /** Where it was asked; null is a new conversation that the server has not kept yet. */
  conversationId: string | null;
  /** What it is there; null until the server has kept it. */
  messageId: string | null;
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

const running = (): boolean => live?.state === "running";

/** Forget an exchange that has ended: the conversation shows it from now on. */
export function clear(): void {
  if (!running()) set(null);
}

/** Listen no longer. What the server has not begun to answer is never answered. */
export function drop(): void {
  controller?.abort();
}

/** What there is of the answer comes as its end. */
export function stop(): void {
  const mine = controller;
  if (!live?.messageId || !live.conversationId) return drop();
  stopIn(live.conversationId).catch(() => mine?.abort());
}

/** Stop what is being answered in a conversation, whoever asked for it. */
export async function stopIn(conversationId: string): Promise<void> {
  await unwrap(api.POST("/api/v1/conversations/{conversation_id}/stop", { params: { path: { conversation_id: conversationId } } }));
}

/**
 * Ask. `begun` is told where the question is kept, at once. Resolves when the answer has ended, however
 * it ended, or with null when another question was asked meanwhile; never rejects.
 */
export async function ask(
  question: string,
  conversationId: string | null,
  begun: (conversationId: string) => void,
): Promise<Live | null> {
  controller?.abort();
  const mine = new AbortController();
  controller = mine;
  let now: Live = {
    conversationId,
    messageId: null,
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
    for await (const event of events(response.body)) take(event, change, () => now, begun);
    if (now.state === "running") change({ state: "broken" });
  } catch (error) {
    if (mine.signal.aborted) change({ state: "stopped" });
    else if (error instanceof ApiError) change({ state: "failed", error });
    // The connection broke in mid-answer.
    else if (now.messageId) change({ state: "broken" });
    else change({ state: "failed", error: unreachable() });
  }
  if (now.error?.signedOut) {
    if (controller === mine) set(null);
    tellSignedOut();
  }
  return controller === mine ? now : null;
}

function take(
  event: ServerEvent,
  change: (part: Partial<Live>) => void,
  now: () => Live,
  begun: (conversationId: string) => void,
): void {
  const data: unknown = JSON.parse(event.data);
  switch (event.name) {
    case "begun": {
      const { id: messageId, conversation_id: conversationId } = data as Begun;
      change({ messageId, conversationId });
      return begun(conversationId);
    }
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
      return change({ state: "answered", answer, text: answer.answer });
    }
    case "error":
      return change({
        state: "failed",
        error: errorFrom(data, (data as { error?: string }).error === "NotSignedIn" ? 401 : 503),
      });
  }
}
