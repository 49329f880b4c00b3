import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError, api, unwrap } from "../api/client";
import type { Conversation, Message, Summary } from "../api/types";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Problem } from "../shared/Notice";
import { go } from "../shared/router";
import { Announcer } from "./Announcer";
import { ask, clear, moveTo, running, stop, useLive, type Live } from "./asking";
import type { Place } from "./citations";
import { Composer } from "./Composer";
import { ConversationList } from "./ConversationList";
import { keepDraft } from "./drafts";
import { Exchange, LiveExchange } from "./Exchange";
import { SourcePanel } from "./SourcePanel";
import { useStick } from "./useStick";
import "./ask.css";

const PAGE = 50;

interface Props {
  conversationId: string | null;
}

export function AskPage({ conversationId }: Props) {
  const say = useSay();
  const live = useLive();
  const [conversations, setConversations] = useState<Summary[] | null>(null);
  const [listError, setListError] = useState<unknown>(null);
  const [more, setMore] = useState(false);
  const [conversation, setConversation] = useState<Conversation | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [place, setPlace] = useState<Place | null>(null);
  const [drawer, setDrawer] = useState(false);
  const opener = useRef<HTMLElement | null>(null);

  const here = live && live.conversationId === conversationId ? live : null;
  const messages = conversation && conversation.id === conversationId ? conversation.messages : null;
  const stick = useStick(
    `${conversationId}:${messages?.length ?? 0}:${here?.text.length ?? 0}:${here?.stage ?? ""}:${here?.state ?? ""}`,
    here?.state === "running",
  );

  const listConversations = useCallback(async (before?: string): Promise<Summary[]> => {
    const query = before ? { before, limit: PAGE } : { limit: PAGE };
    try {
      const found = (await unwrap(api.GET("/api/v1/conversations", { params: { query } }))).conversations;
      setConversations((old) => (before ? [...(old ?? []), ...found] : found));
      setMore(found.length === PAGE);
      setListError(null);
      return found;
    } catch (problem) {
      setListError(problem);
      return [];
    }
  }, []);

  useEffect(() => {
    void listConversations();
  }, [listConversations]);

  const load = useCallback(async (id: string) => {
    setError(null);
    try {
      setConversation(
        await unwrap(api.GET("/api/v1/conversations/{conversation_id}", { params: { path: { conversation_id: id } } })),
      );
    } catch (problem) {
      setError(problem);
    }
  }, []);

  const shown = useRef(conversation);
  shown.current = conversation;
  const unseen = useRef(false);
  const shownId = useRef<string | null>(null);
  useEffect(() => {
    setPlace(null);
    setError(null);
    // An answer that was just given is already here.
    if (shownId.current !== conversationId) {
      unseen.current = false;
      stick.reset();
      if (conversationId) void load(conversationId);
    }
    if (!conversationId) setConversation(null);
    shownId.current = conversationId;
  }, [conversationId, load, stick.reset]);

  const settle = useCallback(
    async (ended: Live, before: ReadonlySet<string>) => {
      let id = ended.keptIn;
      if (ended.answer && id) {
        const message: Message = { ...ended.answer, rating: 0, created_at: new Date().toISOString() };
        const old = shown.current;
        // What broke off before is kept by the server, but not shown here: then all is read again.
        if (old?.id === id && !unseen.current) setConversation({ ...old, messages: [...old.messages, message] });
        else if (!before.has(id)) setConversation({ id, title: "", messages: [message] });
        else await load(id);
        unseen.current = false;
        clear();
      }
      unseen.current ||= ended.state === "failed" && id !== null;
      if (ended.state === "stopped" || ended.state === "broken") {
        // The server keeps what there was, a moment after it notices; a new conversation is found by being new.
        for (let turn = 0; turn < 6; turn += 1) {
          await new Promise((resolve) => window.setTimeout(resolve, 400));
          const found = await listConversations();
          id ??= found.find((c) => !before.has(c.id))?.id ?? null;
          if (!id) continue;
          const now = await unwrap(
            api.GET("/api/v1/conversations/{conversation_id}", { params: { path: { conversation_id: id } } }),
          ).catch(() => null);
          const last = now?.messages.at(-1);
          if (!now || last?.question !== ended.question || last.ended === "complete") continue;
          if (running()) return;
          setConversation(now);
          clear();
          break;
        }
      }
      if (id && !before.has(id) && window.location.pathname === "/") {
        shownId.current = id;
        moveTo(id);
        go(`/c/${encodeURIComponent(id)}`, "replace");
      }
      await listConversations();
    },
    [listConversations, load],
  );

  const send = useCallback(
    (question: string) => {
      const before = new Set(conversations?.map((c) => c.id));
      if (conversationId) before.add(conversationId);
      setPlace(null);
      void ask(question, conversationId).then((ended) => {
        if (ended.error?.signedOut) keepDraft(conversationId, question);
        else void settle(ended, before);
      });
      requestAnimationFrame(stick.toEnd);
    },
    [conversationId, conversations, settle, stick.toEnd],
  );

  const open = useCallback((next: Place) => {
    if (document.activeElement instanceof HTMLElement && !document.activeElement.closest(".sourcePanel")) {
      opener.current = document.activeElement;
    }
    setPlace(next);
  }, []);

  const close = useCallback(() => {
    setPlace(null);
    if (opener.current?.isConnected) opener.current.focus({ preventScroll: true });
  }, []);

  const busy = live?.state === "running";
  const missing = error instanceof ApiError && error.absent;
  const empty = !here && !conversationId;

  return (
    <div className={`askPage${place ? " withSource" : ""}${drawer ? " drawerOpen" : ""}`}>
      <nav id="conversations" className="sidebar" aria-label={say("conversations")}>
        <ConversationList
          conversations={conversations}
          error={listError}
          more={more}
          current={conversationId}
          onMore={() => void listConversations(conversations?.at(-1)?.updated_at)}
          onRetry={() => void listConversations()}
          onNew={() => {
            if (live && live.conversationId === null) {
              stop();
              clear();
            }
          }}
          onChosen={() => setDrawer(false)}
          onRenamed={(id, title) => {
            setConversations((old) => old?.map((c) => (c.id === id ? { ...c, title } : c)) ?? null);
          }}
          onDeleted={(id) => {
            setConversations((old) => old?.filter((c) => c.id !== id) ?? null);
            if (id === conversationId) go("/");
          }}
        />
      </nav>
      {drawer && <div className="scrim" onClick={() => setDrawer(false)} />}
      <div className="thread">
        <button
          type="button"
          className="drawerButton"
          aria-expanded={drawer}
          aria-controls="conversations"
          onClick={() => setDrawer(!drawer)}
        >
          <Icon name="menu" />
          {say(drawer ? "conversationsHide" : "conversations")}
        </button>
        <div className="scroll" ref={stick.ref}>
          <div className="column">
            {empty && <Welcome />}
            {missing && <p className="note">{say("conversationMissing")}</p>}
            {error !== null && !missing && <Problem error={error} onRetry={() => conversationId && void load(conversationId)} />}
            {conversationId && !messages && error === null && !here && (
              <p className="loading" role="status">
                {say("loading")}
              </p>
            )}
            {messages?.map((message) => (
              <Exchange key={message.id} message={message} opened={place} onOpen={open} onAgain={send} />
            ))}
            {here && <LiveExchange live={here} opened={place} onOpen={open} onAgain={send} />}
          </div>
        </div>
        <div className="foot">
          {!stick.stuck && !empty && (
            <button type="button" className="toLatest" onClick={stick.toEnd}>
              <Icon name="down" />
              {say("toLatest")}
            </button>
          )}
          {!missing && <Composer conversationId={conversationId} busy={busy} elsewhere={busy && !here} onSend={send} />}
        </div>
        <Announcer live={here} />
      </div>
      {place && <SourcePanel place={place} onClose={close} />}
    </div>
  );
}

function Welcome() {
  const say = useSay();
  return (
    <div className="welcome">
      <h1>{say("welcome")}</h1>
      <p>{say("welcomeLead")}</p>
      <h2>{say("welcomeTips")}</h2>
      <ul>
        <li>{say("welcomeTip1")}</li>
        <li>{say("welcomeTip2")}</li>
        <li>{say("welcomeTip3")}</li>
      </ul>
    </div>
  );
}
