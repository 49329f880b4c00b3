import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { ApiError, api, unwrap } from "../api/client";
import type { About, PlaceBox } from "../api/types";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";
import { Await, Badge, Problem } from "../shared/Notice";
import { go } from "../shared/router";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { Chunks } from "./Chunks";
import { CorrectDialog } from "./CorrectDialog";
import { Facts } from "./Facts";
import { Outline } from "./Outline";
import { PagePicture } from "./PagePicture";
import { Pager } from "./Pager";
import { PageText, RangeText } from "./Reading";
import { documentPath, type DocumentAt, type Words } from "./paths";
import "./document.css";

const WAITING_MS = 1500;
const DRAWN_CHARS = 20_000;

type View = "text" | "sections" | "chunks" | "info";
const VIEWS: readonly { view: View; label: TextKey }[] = [
  { view: "text", label: "docText" },
  { view: "sections", label: "docSections" },
  { view: "chunks", label: "docChunks" },
  { view: "info", label: "docInfo" },
];

/** One document: its pages as pictures and as text, its outline, its chunks, and what is known of it. */
export function DocumentPage({ id, page, words }: DocumentAt) {
  const { say } = useLanguage();
  const about = useLoad(() => unwrap(api.GET("/api/v1/documents/{document_id}/about", { params: { path: { document_id: id } } })), [id]);
  const { reload } = about;
  const waiting = about.data?.waiting ?? false;
  useEffect(() => {
    if (!waiting) return;
    const timer = window.setInterval(reload, WAITING_MS);
    return () => window.clearInterval(timer);
  }, [waiting, reload]);

  if (about.error instanceof ApiError && about.error.absent) {
    return (
      <div className="page">
        <p className="note" role="alert">
          {say("docGone")}
        </p>
      </div>
    );
  }
  return (
    <div className="documentPage">
      <Await loaded={about}>{(known) => <Known known={known} page={page} words={words} reload={reload} />}</Await>
    </div>
  );
}

function Known({ known, page, words, reload }: { known: About; page: number | null; words: DocumentAt["words"]; reload: () => void }) {
  const { say } = useLanguage();
  const bare = known.children > 0 && known.length === 0; // an archive: all it has is inside
  const [view, setView] = useState<View>(known.readable && !bare ? "text" : "info");
  const [correcting, setCorrecting] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const [found, setFound] = useState<number | null>(null); // the page that holds the words
  const paged = known.page_count > 0;
  const current = page ?? found ?? 1;

  useEffect(() => {
    if (!words || !paged || !known.readable) return setFound(null);
    let stale = false;
    unwrap(api.GET("/api/v1/documents/{document_id}/text", { params: { path: { document_id: known.id }, query: { at: words.start, length: 0 } } })).then(
      (part) => !stale && setFound(part.page),
      (problem: unknown) => !stale && setError(problem),
    );
    return () => {
      stale = true;
    };
  }, [known.id, words?.start, paged, known.readable]);

  const [boxes, setBoxes] = useState<readonly PlaceBox[]>([]); // of the words, on the pages' pictures

  useEffect(() => {
    setBoxes([]);
    if (!words || words.end <= words.start || !known.pictured || !known.readable) return;
    let stale = false;
    const query = { start: words.start, end: Math.min(words.end, words.start + DRAWN_CHARS) };
    unwrap(api.GET("/api/v1/documents/{document_id}/boxes", { params: { path: { document_id: known.id }, query } })).then(
      (found) => !stale && setBoxes(found.boxes),
      (problem: unknown) => !stale && setError(problem),
    );
    return () => {
      stale = true;
    };
  }, [known.id, words?.start, words?.end, known.pictured, known.readable]);

  function turn(to: number) {
    if (to >= 1 && to <= known.page_count) go(documentPath(known.id, to));
  }

  function open(at: Words) {
    setView("text");
    go(documentPath(known.id, at));
  }

  function keys(event: KeyboardEvent) {
    const inside = (event.target as HTMLElement).closest("input, textarea, select, [role=tablist]");
    if (!paged || inside || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    turn(current + step);
  }

  async function retake() {
    setError(null);
    try {
      await unwrap(api.POST("/api/v1/documents/{document_id}/retake", { params: { path: { document_id: known.id } } }));
      reload();
    } catch (problem) {
      setError(problem);
    }
  }

  const ready = !words || !paged || found !== null;
  const version = `${known.updated_at}`; // a document read anew is drawn and read anew
  return (
    <article className="document" aria-labelledby="document-title" onKeyDown={keys}>
      <header className="documentHead">
        <div className="documentTitle">
          <h1 id="document-title">{known.title}</h1>
          <p className="rowSub path">
            {known.source} · {known.uri}
          </p>
          <Standing known={known} />
        </div>
        <div className="documentActs">
          {known.readable && known.downloadable && (
            <a className="button small" href={`/api/v1/documents/${encodeURIComponent(known.id)}/original`} download>
              <Icon name="down" />
              {say("docDownload")}
            </a>
          )}
          {known.manageable && (
            <>
              <button type="button" className="button small" disabled={known.waiting} onClick={() => void retake()}>
                <Icon name="retry" />
                {say("docRetake")}
              </button>
              <button type="button" className="button small" onClick={() => setCorrecting(true)}>
                <Icon name="pencil" />
                {say("docCorrect")}
              </button>
            </>
          )}
        </div>
      </header>
      {error !== null && <Problem error={error} />}
      {known.problem && (
        <p className="problem documentProblem">
          {known.problem}
          {known.searchable && ` ${say("docOldText")}`}
        </p>
      )}
      {known.status === "ready" && known.history[0]?.kind === "failed" && (
        <p className="problem documentProblem">
          {say("docRetakeFailed")} {known.history[0].detail}
        </p>
      )}
      {!known.readable && <p className="note">{say("docNotReadable")}</p>}
      <div className={known.readable && known.pictured ? "documentBody withPicture" : "documentBody"}>
        {known.readable && (
          <div className="documentLeft">
            {known.page_count > 1 && <Pager current={current} count={known.page_count} onTurn={turn} />}
            {known.pictured ? (
              ready && <PagePicture key={`${current} ${version}`} id={known.id} page={current} boxes={boxes} />
            ) : (
              <p className="pictureNone">
                <Icon name="document" />
                {say("docPictureNone")}
              </p>
            )}
          </div>
        )}
        <div className="documentRight">
          {known.readable && <Tabs view={view} onView={setView} />}
          <div
            className="documentView"
            id="document-view"
            {...(known.readable ? { role: "tabpanel", "aria-labelledby": `tab-${view}`, tabIndex: 0 } : {})}
          >
            {view === "text" &&
              ready &&
              (paged ? (
                <PageText key={version} id={known.id} page={current} words={words} />
              ) : (
                <RangeText key={version} id={known.id} words={words} />
              ))}
            {view === "sections" && <Outline key={version} id={known.id} onOpen={open} />}
            {view === "chunks" && <Chunks key={version} id={known.id} onOpen={open} />}
            {view === "info" && <Facts known={known} />}
          </div>
        </div>
      </div>
      {correcting && <CorrectDialog known={known} onClose={() => setCorrecting(false)} onDone={reload} />}
    </article>
  );
}

function Standing({ known }: { known: About }) {
  const { say } = useLanguage();
  const mine = known.versions.find((v) => v.document_id === known.id);
  const corrected = known.given_title !== null || known.in_force_corrected;
  return (
    <p className="documentBadges" role="status">
      {mine?.standing === "superseded" && <Badge tone="wait">{say("docVersionSuperseded")}</Badge>}
      {mine?.standing === "ahead" && <Badge tone="wait">{say("docVersionAhead")}</Badge>}
      {corrected && <Badge tone="plain">{say("docCorrected")}</Badge>}
      {known.status === "problem" && (
        <Badge tone="bad" icon="warning">
          {say("statusProblem")}
        </Badge>
      )}
      {known.waiting && (
        <Badge tone="wait" icon="retry">
          {say("docRetaking")}
        </Badge>
      )}
    </p>
  );
}

/** Arrow keys go from tab to tab, as the pattern for tabs has it. */
function Tabs({ view, onView }: { view: View; onView: (view: View) => void }) {
  const { say } = useLanguage();
  const list = useRef<HTMLDivElement>(null);

  function keys(event: KeyboardEvent) {
    const at = VIEWS.findIndex((v) => v.view === view);
    const last = VIEWS.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    const next = to === undefined ? undefined : VIEWS[to];
    if (!next) return;
    event.preventDefault();
    onView(next.view);
    list.current?.querySelector<HTMLElement>(`#tab-${next.view}`)?.focus();
  }

  return (
    <div className="tabs" role="tablist" aria-label={say("docViews")} ref={list} onKeyDown={keys}>
      {VIEWS.map((one) => (
        <button
          key={one.view}
          id={`tab-${one.view}`}
          type="button"
          role="tab"
          aria-selected={one.view === view}
          aria-controls="document-view"
          tabIndex={one.view === view ? 0 : -1}
          onClick={() => onView(one.view)}
        >
          {say(one.label)}
        </button>
      ))}
    </div>
  );
}
