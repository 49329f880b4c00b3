import createClient, { type Middleware } from "openapi-fetch";
import type { Language, Say } from "../shared/text";
import type { paths } from "./schema";
import type { SignedIn } from "./types";

/** The one client. The CSRF token lives in memory alone; a 401 anywhere shows the sign-in page. */

let csrfToken = "";
let signedInAs = "";
let signedOut: () => void = () => {};

export function setCsrfToken(token: string, userId: string): void {
  csrfToken = token;
  signedInAs = userId;
}

export function onSignedOut(listener: () => void): void {
  signedOut = listener;
}

export function tellSignedOut(): void {
  signedOut();
}

const UNSAFE = new Set(["POST", "PUT", "PATCH", "DELETE"]);
/** Where a 401 means "wrong password", not "signed out". */
const DOOR = /\/api\/v1\/(session|session\/password|setup|health)$/;

/** Headers every unsafe request carries. */
export function headersFor(method: string): Record<string, string> {
  return UNSAFE.has(method.toUpperCase()) && csrfToken ? { "X-CSRF-Token": csrfToken } : {};
}

const middleware: Middleware = {
  onRequest({ request }) {
    for (const [name, value] of Object.entries(headersFor(request.method))) request.headers.set(name, value);
    return request;
  },
  onResponse({ request, response }) {
    if (response.status === 503 && !DOOR.test(new URL(request.url).pathname)) void lookIfClosed(response.clone());
    if (response.status === 401 && !DOOR.test(new URL(request.url).pathname)) signedOut();
  },
};

/** Maintenance began while somebody reads: the page that says until when comes from the server. */
async function lookIfClosed(response: Response): Promise<void> {
  const body: unknown = await response.json().catch(() => null);
  if (errorFrom(body, 503).kind === "Closed") window.location.reload();
}

/**
 * `fetch`, patient with other tabs: signing in again there gives the browser a new session, whose
 * token this tab does not know yet. If it has become somebody else's, the page starts anew.
 */
export async function send(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await fetch(request);
  if (response.status !== 403 || !UNSAFE.has(request.method)) return response;
  const session = await fetch("/api/v1/session", { credentials: "same-origin" });
  if (!session.ok) return response;
  const { csrf_token: token, user } = (await session.json()) as SignedIn;
  if (user.id !== signedInAs) window.location.assign("/");
  if (token === csrfToken) return response;
  csrfToken = token;
  again.headers.set("X-CSRF-Token", token);
  return fetch(again);
}

export const api = createClient<paths>({ credentials: "same-origin", fetch: send });
api.use(middleware);

/** What a call that did not succeed says: for a person, in both languages. */
export class ApiError extends Error {
  constructor(
    readonly kind: string,
    readonly status: number,
    readonly japanese: string,
    readonly english: string,
    readonly retryAfterS: number | null,
    readonly detail: string = "",
    readonly requestId: string = "",
  ) {
    super(english || kind);
  }

  get signedOut(): boolean {
    return this.status === 401;
  }

  get absent(): boolean {
    return this.status === 404;
  }
}

export function errorFrom(body: unknown, status: number): ApiError {
  const fields = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const text = (name: string) => (typeof fields[name] === "string" ? (fields[name] as string) : "");
  const wait = fields["retry_after_s"];
  return new ApiError(
    text("error") || "Unexpected",
    status,
    text("message"),
    text("message_en"),
    typeof wait === "number" ? wait : null,
    text("detail"),
    text("request_id"),
  );
}

export const unreachable = (): ApiError => new ApiError("Unreachable", 0, "", "", null);

/** The data of a call, or an ApiError; a broken connection is one too. */
export async function unwrap<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  let result;
  try {
    result = await call;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!result.response.ok) throw errorFrom(result.error, result.response.status);
  return result.data as T;
}

/** What went wrong, in one or two sentences for the reader. */
export function explain(error: unknown, language: Language, say: Say): string {
  if (!(error instanceof ApiError)) return say("unexpected");
  if (error.kind === "Unreachable") return say("unreachable");
  const said = language === "ja" ? error.japanese || error.english : error.english || error.japanese;
  const parts = [said || say("unexpected")];
  if (error.detail) parts.push(error.detail);
  // The sentences say "in a moment" themselves; a longer wait is worth a number.
  if (error.retryAfterS !== null && error.retryAfterS > 10) parts.push(waitFor(error.retryAfterS, say));
  if (error.status >= 500 && error.kind === "InternalError") parts.push(say("requestId", { id: error.requestId }));
  return parts.join(language === "ja" ? "" : " ");
}

export function waitFor(seconds: number, say: Say): string {
  return seconds > 90
    ? say("tryAgainInMinutes", { minutes: Math.ceil(seconds / 60) })
    : say("tryAgainIn", { seconds: Math.ceil(seconds) });
}
