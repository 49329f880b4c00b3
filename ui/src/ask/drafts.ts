/** What was typed and not yet sent, kept while one looks elsewhere or signs in again. */

const drafts = new Map<string, string>();
const key = (conversationId: string | null) => conversationId ?? "";

export const draft = (conversationId: string | null): string => drafts.get(key(conversationId)) ?? "";

/** What is being typed goes along to the address that a new conversation gets. */
export function moveDraft(conversationId: string): void {
  keepDraft(conversationId, draft(null));
  keepDraft(null, "");
}

export function keepDraft(conversationId: string | null, text: string): void {
  if (text) drafts.set(key(conversationId), text);
  else drafts.delete(key(conversationId));
}
