import type { AnyCitation, AnyPassage, Citation, Passage, Pointer, Version } from "../api/types";
import { Icon } from "../shared/Icon";
import { useLanguage, useSay } from "../shared/language";
import { day } from "../shared/dates";
import { Badge, Stamp } from "../shared/Notice";
import { placeOf, placeOfPassage, placeOfPointer, pointed, quoted, titleOf, visible, type Place } from "./citations";

interface Props {
  citations: readonly AnyCitation[];
  passages: readonly AnyPassage[];
  opened: Place | null;
  onOpen: (place: Place) => void;
}

const same = (a: Place | null, b: Place) =>
  a !== null && a.documentId === b.documentId && a.marker === b.marker && a.span?.start === b.span?.start;

/** One row a citation: where it is, what it says, and whether it was found to say so. */
export function CitationList({ citations, passages, opened, onOpen }: Props) {
  const say = useSay();
  if (!citations.length) return null;
  const inOrder = [...citations].sort((a, b) => a.marker - b.marker);
  return (
    <section className="citations" aria-label={say("citations")}>
      <h3>{say("citations")}</h3>
      <ol>
        {inOrder.map((citation, i) => {
          if (!visible<Citation>(citation)) {
            return (
              <li key={i} className="citation">
                <div className="citationFace gone">
                  <span className="marker gone">{citation.marker}</span>
                  <span className="citationWhere">{say("sourceGone")}</span>
                  <Badge tone="plain">{say("citationWithdrawn")}</Badge>
                </div>
              </li>
            );
          }
          const place = placeOf(citation, passages);
          const quote = quoted(citation, passages);
          return (
            <li key={i} className="citation">
              <button
                type="button"
                className="citationFace"
                aria-pressed={same(opened, place)}
                onClick={() => onOpen(place)}
              >
                <span className="marker" aria-hidden="true">
                  {citation.marker}
                </span>
                <span className="citationWhere">
                  <span className="citationTitle">{titleOf(citation)}</span>
                  {citation.label && <span className="citationLabel">{citation.label}</span>}
                </span>
                <span className="citationBadges">
                  <Stamp confidentiality={citation.confidentiality} />
                  <Standing version={citation.version} />
                  {citation.supported ? (
                    <Badge tone="good" icon="check" title={say("supportedHelp")}>
                      {say("supported")}
                    </Badge>
                  ) : (
                    <Badge tone="wait" icon="question" title={say("unsupportedHelp")}>
                      {say("unsupported")}
                    </Badge>
                  )}
                </span>
                {citation.quote && <Quote parts={quote} marked={quote.join("") !== citation.quote} />}
                <InForce version={citation.version} />
              </button>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

function Quote({ parts: [before, words, after], marked }: { parts: [string, string, string]; marked: boolean }) {
  return (
    <span className="citationQuote">
      「{before}
      {marked ? <mark>{words}</mark> : words}
      {after}」
    </span>
  );
}

function Standing({ version }: { version: Version | null }) {
  const say = useSay();
  return version && <Badge tone="wait">{say(version.standing === "ahead" ? "versionAhead" : "versionSuperseded")}</Badge>;
}

/** Which version is in force instead. */
function InForce({ version }: { version: Version | null }) {
  const { say, language } = useLanguage();
  if (!version) return null;
  const since = version.since ? say("versionSince", { day: day(`${version.since}T00:00`, language) }) : "";
  return (
    <span className="citationQuote">
      {say("versionInForce", { title: version.title })}
      {since}
    </span>
  );
}

export function PassageList({ heading, passages, opened, onOpen }: { heading: string; passages: readonly AnyPassage[]; opened: Place | null; onOpen: (place: Place) => void }) {
  const shown = passages.filter((p) => visible<Passage>(p));
  if (!shown.length) return null;
  return (
    <section className="citations" aria-label={heading}>
      <h3>{heading}</h3>
      <ol>
        {shown.map((passage) => {
          const place = placeOfPassage(passage);
          return (
            <li key={passage.n} className="citation">
              <button
                type="button"
                className="citationFace"
                aria-pressed={opened?.documentId === place.documentId && opened.passage?.start === place.passage?.start}
                onClick={() => onOpen(place)}
              >
                <Icon name="document" />
                <span className="citationWhere">
                  <span className="citationTitle">{titleOf(passage)}</span>
                  {passage.label && <span className="citationLabel">{passage.label}</span>}
                </span>
                <span className="citationBadges">
                  <Stamp confidentiality={passage.confidentiality} />
                  <Standing version={passage.version} />
                </span>
                <InForce version={passage.version} />
              </button>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

/** Places that say something of what was asked: where, of what day, and the sentence. */
export function PointerList({ heading, pointers, opened, onOpen }: { heading: string; pointers: readonly Pointer[]; opened: Place | null; onOpen: (place: Place) => void }) {
  const { say, language } = useLanguage();
  if (!pointers.length) return null;
  return (
    <section className="citations" aria-label={heading}>
      <h3>{heading}</h3>
      <ol>
        {pointers.map((pointer) => {
          const place = placeOfPointer(pointer);
          return (
            <li key={`${pointer.n}-${pointer.span.start}`} className="citation">
              <button type="button" className="citationFace" aria-pressed={same(opened, place)} onClick={() => onOpen(place)}>
                <Icon name="document" />
                <span className="citationWhere">
                  <span className="citationTitle">{titleOf(pointer)}</span>
                  {pointer.label && <span className="citationLabel">{pointer.label}</span>}
                  {pointer.modified_at && <span className="citationLabel">{say("updatedOn", { day: day(pointer.modified_at, language) })}</span>}
                </span>
                <span className="citationBadges">
                  <Stamp confidentiality={pointer.confidentiality} />
                  <Standing version={pointer.version} />
                </span>
                <Quote parts={pointed(pointer)} marked />
                <InForce version={pointer.version} />
              </button>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
