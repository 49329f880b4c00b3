import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { api, unwrap } from "../api/client";
import type { DocumentPart } from "../api/types";
import { cut, SourceText } from "../ask/SourceText";
import { charactersIn, unitsAt } from "../shared/characters";
import { useSay } from "../shared/language";
import { Badge, Await, Empty, Problem } from "../shared/Notice";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { Compared } from "./Compared";
import type { Words } from "./paths";

const STEP = 8_000;

const STATES = {
  fine: "docStateFine",
  rotated: "docStateRotated",
  empty: "docStateEmpty",
  scanned: "docStateScanned",
  garbled: "docStateGarbled",
} as const satisfies Record<string, TextKey>;
const READ = { text: "docReadText", ocr: "docReadOcr", none: "docReadNone" } as const satisfies Record<string, TextKey>;

type Query = { page?: number; at?: number; start?: number; length?: number };

function fetchText(id: string, query: Query): Promise<DocumentPart> {
  return unwrap(api.GET("/api/v1/documents/{document_id}/text", { params: { path: { document_id: id }, query } }));
}

/** The text of one page. */
export function PageText({ id, page, words }: { id: string; page: number; words: Words | null }) {
  const say = useSay();
  const part = useLoad(() => fetchText(id, { page }), [id, page]);
  if (part.data && part.data.page !== page) return null; // the page turned away from
  return (
    <Await loaded={part}>
      {(found) => (
        <>
          {found.state && <PageStateLine state={found.state} />}
          {found.state && (found.state.state === "garbled" || found.state.state === "scanned") && <Compared key={page} id={id} page={page} />}
          {found.text.trim() ? <Marked text={found.text} offset={found.start} words={words} /> : <Empty>{say("docTextNone")}</Empty>}
        </>
      )}
    </Await>
  );
}

export function PageStateLine({ state }: { state: NonNullable<DocumentPart["state"]> }) {
  const say = useSay();
  if (state.state === "fine" && state.read === "text") return null;
  return (
    <p className="pageState">
      {state.state !== "fine" && <Badge tone="wait">{say(STATES[state.state])}</Badge>}
      <Badge tone={state.read === "none" ? "bad" : "plain"}>{say(READ[state.read])}</Badge>
      {state.state !== "fine" && <span className="rowSub">{say("docStateSure", { sure: Math.round(100 * state.sure) })}</span>}
    </p>
  );
}

/** The text of a document without pages, a part at a time. */
export function RangeText({ id, words }: { id: string; words: Words | null }) {
  const say = useSay();
  const [part, setPart] = useState<DocumentPart | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  const inside = part !== null && words !== null && words.start >= part.start && words.start < part.end;

  useEffect(() => {
    if (inside) return;
    let stale = false;
    setPart(null);
    setError(null);
    fetchText(id, words ? { at: words.start, length: STEP } : { start: 0, length: STEP }).then(
      (found) => !stale && setPart(found),
      (problem: unknown) => !stale && setError(problem),
    );
    return () => {
      stale = true;
    };
  }, [id, words?.start, attempt]);

  async function extend(way: "earlier" | "later") {
    if (!part) return;
    setError(null);
    try {
      if (way === "later") {
        const more = await fetchText(id, { start: part.end, length: STEP });
        setPart({ ...part, text: part.text + more.text, end: more.end });
      } else {
        const start = Math.max(0, part.start - STEP);
        const more = await fetchText(id, { start, length: part.start - start });
        setPart({ ...part, text: more.text + part.text, start: more.start });
      }
    } catch (problem) {
      setError(problem);
    }
  }

  if (error !== null && !part) return <Problem error={error} onRetry={() => setAttempt(attempt + 1)} />;
  if (!part) {
    return (
      <p className="loading" role="status">
        {say("loading")}
      </p>
    );
  }
  if (part.length === 0) return <Empty>{say("docTextEmpty")}</Empty>;
  return (
    <>
      {part.start > 0 && (
        <button type="button" className="quietButton" onClick={() => void extend("earlier")}>
          {say("sourceEarlier")}
        </button>
      )}
      <Marked text={part.text} offset={part.start} words={words} />
      {error !== null && <Problem error={error} />}
      {part.end < part.length ? (
        <button type="button" className="quietButton" onClick={() => void extend("later")}>
          {say("sourceLater")}
        </button>
      ) : (
        <p className="sourceEdge">{say("sourceEnd")}</p>
      )}
    </>
  );
}

/** Where the line ends that a character is on, in characters. */
function lineEnd(text: string, at: number): number {
  const from = unitsAt(text, at);
  const found = text.indexOf("\n", from);
  return at + charactersIn(text.slice(from, found < 0 ? text.length : found));
}

/** Text with the words marked that one came for, and brought into view; an empty range is the line it stands on. */
function Marked({ text, offset, words }: { text: string; offset: number; words: Words | null }) {
  const target = useRef<HTMLElement>(null);
  const parts = useMemo(() => {
    const end = offset + charactersIn(text);
    const wanted = words && { start: words.start, end: Math.max(words.end, words.start + 1) };
    const seen = wanted && wanted.start < end && wanted.end > offset ? wanted : null;
    const span = seen && { start: Math.max(seen.start, offset), end: Math.min(seen.end, end) };
    if (span && words?.start === words?.end) span.end = lineEnd(text, span.start - offset) + offset;
    return cut({ text, offset, marks: [] }, { passage: null, span, quote: "" }).parts;
  }, [text, offset, words]);
  useLayoutEffect(() => {
    target.current?.scrollIntoView({ block: "center" }); // what it returns is no clean-up
  }, [words, text]);
  return (
    <div className="documentText">
      <SourceText parts={parts} target={target} />
    </div>
  );
}
