import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { ApiError, api, unwrap } from "../api/client";
import type { Document, Metadata } from "../api/types";
import { charactersIn } from "../shared/characters";
import { day } from "../shared/dates";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";
import { Badge, Problem, Stamp } from "../shared/Notice";
import { Link } from "../shared/router";
import type { TextKey } from "../shared/text";
import { documentPath } from "../documents/paths";
import { titleOf, type Place } from "./citations";
import { cut, SourceText } from "./SourceText";

/** How much text around the cited place is fetched at first, and with each "read on". */
const AROUND = 2_000;
const STEP = 8_000;

interface Props {
  place: Place;
  onClose: () => void;
}

/** The source beside the answer: its text, at the cited place, with the supporting words marked. */
export function SourcePanel({ place, onClose }: Props) {
  const { say, language } = useLanguage();
  const heading = useRef<HTMLHeadingElement>(null);
  const body = useRef<HTMLDivElement>(null);
  const target = useRef<HTMLElement>(null);
  const [doc, setDoc] = useState<Document | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  const keep = useRef<number | null>(null);

  const from = place.passage?.start ?? place.span?.start ?? 0;
  const to = place.passage?.end ?? place.span?.end ?? from;

  useEffect(() => {
    let stale = false;
    setDoc(null);
    setError(null);
    fetchPart(place.documentId, Math.max(0, from - AROUND), to + AROUND).then(
      (found) => !stale && setDoc(found),
      (problem: unknown) => !stale && setError(problem),
    );
    return () => {
      stale = true;
    };
  }, [place.documentId, from, to, attempt]);

  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, [place]);

  useEffect(() => {
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) onClose();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [onClose]);

  const shown = useMemo(() => (doc ? cut(doc, place) : null), [doc, place]);
  const first = doc !== null;
  useLayoutEffect(() => {
    if (first) toPlace();
  }, [first, place]);

  // Text that comes in above must not push away what one is reading.
  useLayoutEffect(() => {
    const box = body.current;
    if (box && keep.current !== null) box.scrollTop += box.scrollHeight - keep.current;
    keep.current = null;
  }, [doc]);

  function toPlace() {
    const box = body.current;
    const mark = target.current;
    if (!box || !mark) return;
    const room = Math.max(24, (box.clientHeight - mark.offsetHeight) / 3);
    box.scrollTop += mark.getBoundingClientRect().top - box.getBoundingClientRect().top - room;
  }

  async function extend(way: "earlier" | "later") {
    if (!doc) return;
    const end = doc.offset + charactersIn(doc.text);
    try {
      const more =
        way === "earlier"
          ? await fetchPart(doc.id, Math.max(0, doc.offset - STEP), doc.offset)
          : await fetchPart(doc.id, end, end + STEP);
      if (way === "earlier") keep.current = body.current?.scrollHeight ?? null;
      setDoc({
        ...doc,
        text: way === "earlier" ? more.text + doc.text : doc.text + more.text,
        offset: Math.min(doc.offset, more.offset),
      });
    } catch (problem) {
      setError(problem);
    }
  }

  const atEnd = doc !== null && doc.offset + charactersIn(doc.text) >= doc.length;
  const gone = error instanceof ApiError && error.absent;

  return (
    <aside className="sourcePanel" aria-label={say("sourcePanel")}>
      <header className="sourceHead">
        <div className="sourceHeadText">
          <h2 ref={heading} tabIndex={-1}>
            {place.marker !== null && <span className="marker">{place.marker}</span>}
            {gone ? say("citationWithdrawn") : (doc ? titleOf(doc) : place.title)}
          </h2>
          {!gone && place.label && <p className="sourceLabel">{place.label}</p>}
        </div>
        <button type="button" className="iconButton" onClick={onClose} aria-label={say("sourceClose")}>
          <Icon name="close" />
        </button>
      </header>
      {gone ? (
        <p className="note sourceGone">{say("sourceGone")}</p>
      ) : error ? (
        <Problem error={error} onRetry={() => setAttempt(attempt + 1)} />
      ) : (
        <>
          <dl className="sourceFacts">
            <div>
              <dt>{say("sourceFrom")}</dt>
              <dd>{doc?.source ?? place.source}</dd>
            </div>
            <div>
              <dt>{say("sourceUri")}</dt>
              <dd className="path">{doc?.uri ?? place.uri}</dd>
            </div>
            <div>
              <dt>{say("sourceDate")}</dt>
              <dd>{doc ? day(doc.modified_at, language) || "—" : "…"}</dd>
            </div>
            {doc && <Facts metadata={doc.metadata} />}
          </dl>
          <div className="sourceNote">
            {place.supported === true && (
              <Badge tone="good" icon="check">
                {say("supported")}
              </Badge>
            )}
            {place.supported === false && (
              <Badge tone="wait" icon="question">
                {say("unsupported")}
              </Badge>
            )}
            {shown?.changed && <span>{say("sourceChanged")}</span>}
            {shown && !shown.changed && place.supported === false && <span>{say("sourceNoSpan")}</span>}
            {shown && (
              <button type="button" className="quietButton" onClick={toPlace}>
                {say("sourceToPlace")}
              </button>
            )}
            <Link href={documentPath(place.documentId, (!shown?.changed && place.span) || place.passage)}>
              {say("docOpen")}
            </Link>
          </div>
          <div className="sourceBody" ref={body} tabIndex={0} role="document" aria-label={doc ? titleOf(doc) : place.title}>
            {!doc || !shown ? (
              <p className="loading" role="status">
                {say("loading")}
              </p>
            ) : (
              <>
                {doc.offset > 0 ? (
                  <button type="button" className="quietButton" onClick={() => void extend("earlier")}>
                    {say("sourceEarlier")}
                  </button>
                ) : (
                  <p className="sourceEdge">{say("sourceStart")}</p>
                )}
                <div className="sourceText">
                  <SourceText parts={shown.parts} target={target} />
                </div>
                {atEnd ? (
                  <p className="sourceEdge">{say("sourceEnd")}</p>
                ) : (
                  <button type="button" className="quietButton" onClick={() => void extend("later")}>
                    {say("sourceLater")}
                  </button>
                )}
              </>
            )}
          </div>
        </>
      )}
    </aside>
  );
}

const FACTS: readonly [Exclude<keyof Metadata, "title">, TextKey, "day" | "text"][] = [
  ["confidentiality", "confidentiality", "text"],
  ["version", "metadataVersion", "text"],
  ["number", "metadataNumber", "text"],
  ["department", "metadataDepartment", "text"],
  ["author", "metadataAuthor", "text"],
  ["created", "metadataCreated", "day"],
  ["revised", "metadataRevised", "day"],
  ["in_force", "metadataInForce", "day"],
];

/** What the document says of itself; what it does not say takes no room. */
function Facts({ metadata }: { metadata: Metadata }) {
  const { say, language } = useLanguage();
  return FACTS.map(([name, label, kind]) => {
    const text = metadata[name]?.text;
    if (!text) return null;
    return (
      <div key={name}>
        <dt>{say(label)}</dt>
        <dd>{name === "confidentiality" ? <Stamp confidentiality={text} /> : kind === "day" ? day(`${text}T00:00`, language) : text}</dd>
      </div>
    );
  });
}

function fetchPart(id: string, start: number, end: number): Promise<Document> {
  return unwrap(
    api.GET("/api/v1/documents/{document_id}", { params: { path: { document_id: id }, query: { start, end } } }),
  );
}
