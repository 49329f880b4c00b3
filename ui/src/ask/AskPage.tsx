import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError, api, unwrap } from "../api/client";
import type { Conversation, Message, Summary } from "../api/types";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Problem } from "../shared/Notice";
import { go } from "../shared/router";
import { useLoad } from "../shared/useLoad";
import { Announcer } from "./Announcer";
import { ask, clear, drop, stop, stopIn, useLive, type Live } from "./asking";
import type { Place } from "./citations";
import { Composer } from "./Composer";
import { ConversationList } from "./ConversationList";
import { keepDraft, moveDraft } from "./drafts";
import { Exchange, LiveExchange } from "./Exchange";
import { SourcePanel } from "./SourcePanel";
import { useStick } from "./useStick";
import "./ask.css";

const PAGE = 50;
const LOOK_MS = 1000; // how often it is looked whether an answer is there that another tab asked for

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
  const kept = conversation && conversation.id === conversationId ? conversation.messages : null;
  const lost = here?.state === "broken";
  // What this tab listens to itself is shown as it comes.
  const messages = kept?.filter((message) => message.id !== here?.messageId);
  const waiting = messages?.some((message) => message.ended === "answering") ?? false;
  const stick = useStick(
    `${conversationId}:${messages?.length ?? 0}:${waiting}:${here?.text.length ?? 0}:${here?.stage ?? ""}:${here?.state ?? ""}`,
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

  const shownId = useRef<string | null>(null);
  const load = useCallback(async (id: string) => {
    let found: Conversation | null = null;
    let problem: unknown = null;
    try {
      found = await unwrap(api.GET("/api/v1/conversations/{conversation_id}", { params: { path: { conversation_id: id } } }));
    } catch (failure) {
      problem = failure;
    }
    if (shownId.current !== id) return;
    if (found || (problem instanceof ApiError && problem.absent)) setConversation(found);
    setError(problem);
  }, []);

  const unseen = useRef(false);
  useEffect(() => {
    setPlace(null);
    setError(null);
    // An answer that was just given is already here.
    const other = shownId.current !== conversationId;
    shownId.current = conversationId;
    if (other) {
      unseen.current = false;
      stick.reset();
      if (conversationId) void load(conversationId);
    }
    if (!conversationId) setConversation(null);
  }, [conversationId, load, stick.reset]);

  useEffect(() => {
    if (!conversationId || !(waiting || lost)) return;
    const timer = window.setTimeout(() => void load(conversationId), LOOK_MS);
    return () => window.clearTimeout(timer);
  }, [conversationId, conversation, error, waiting, lost, load]);

  // The connection broke; the server knows what has become of the question.
  const found = lost && kept?.some((message) => message.id === here.messageId);
  useEffect(() => {
    if (found) clear();
  }, [found]);

  const settle = useCallback(
    async ({ conversationId: id, messageId, answer }: Live) => {
      if (answer && id) {
        const message: Message = { ...answer, rating: 0, created_at: new Date().toISOString() };
        // What broke off before may be kept by the server, but is not shown here: then all is read again.
        if (unseen.current) await load(id);
        else setConversation((old) => (old?.id === id ? { ...old, messages: [...old.messages.filter((m) => m.id !== messageId), message] } : old));
        unseen.current = false;
        clear();
      } else unseen.current = true;
      await listConversations();
    },
    [listConversations, load],
  );

  const begun = useCallback(
    (id: string) => {
      if (window.location.pathname === "/") {
        moveDraft(id);
        shownId.current = id;
        setConversation({ id, title: "", messages: [] });
        go(`/c/${encodeURIComponent(id)}`, "replace");
      }
      void listConversations();
    },
    [listConversations],
  );

  const send = useCallback(
    (question: string) => {
      setPlace(null);
      void ask(question, conversationId, begun).then((ended) => {
        if (ended?.error?.signedOut) keepDraft(ended.conversationId, question);
        else if (ended) void settle(ended);
      });
      requestAnimationFrame(stick.toEnd);
    },
    [conversationId, begun, settle, stick.toEnd],
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

  const running = here?.state === "running";
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
            if (live?.conversationId === null) {
              drop();
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
            {empty && <Welcome onAsk={send} />}
            {missing && <p className="note">{say("conversationMissing")}</p>}
            {error !== null && !missing && !lost && <Problem error={error} onRetry={() => conversationId && void load(conversationId)} />}
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
          {!missing && (
            <Composer
              conversationId={conversationId}
              busy={running || waiting}
              onSend={send}
              onStop={() => {
                if (running) stop();
                else if (conversationId) stopIn(conversationId).catch(setError);
              }}
            />
          )}
        </div>
        <Announcer live={here} waiting={waiting} />
      </div>
      {place && <SourcePanel place={place} onClose={close} />}
    </div>
  );
}

function Welcome({ onAsk }: { onAsk: (question: string) => void }) {
  const say = useSay();
  const examples = useLoad(() => unwrap(api.GET("/api/v1/examples")), []).data?.questions ?? [];
  return (
    <div className="welcome">
      <h1>{say("welcome")}</h1>
      <p>{say("welcomeLead")}</p>
      {examples.length > 0 && (
        <section className="examples" aria-label={say("welcomeExamples")}>
          <h2>{say("welcomeExamples")}</h2>
          {examples.map((question) => (
            <button key={question} type="button" onClick={() => onAsk(question)}>
              {question}
            </button>
          ))}
        </section>
      )}
      <h2>{say("welcomeTips")}</h2>
      <ul>
        <li>{say("welcomeTip1")}</li>
        <li>{say("welcomeTip2")}</li>
        <li>{say("welcomeTip3")}</li>
      </ul>
    </div>
  );
}
