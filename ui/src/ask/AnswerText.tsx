import { Fragment, memo, useMemo } from "react";
import type { AnyCitation, AnyPassage, Citation, Passage, Statement } from "../api/types";
import { useSay } from "../shared/language";
import { citationAt, placeOf, placeOfPassage, visible, type Place } from "./citations";
import { segments } from "./markers";
import { runs, unbacked, type Unbacked } from "./statements";

interface Props {
  text: string;
  citations: readonly AnyCitation[];
  passages: readonly AnyPassage[];
  statements: readonly Statement[];
  streaming: boolean;
  onOpen: (place: Place) => void;
}

/** The answer as text. No markup of any kind is made from what the model wrote; only `[n]` becomes a button. */
export const AnswerText = memo(function AnswerText({ text, citations, passages, statements, streaming, onOpen }: Props) {
  const known = useMemo(
    () => new Set([...citations.map((c) => c.marker), ...passages.map((p) => p.n)]),
    [citations, passages],
  );
  const where = useMemo(() => unbacked(text, statements), [text, statements]);
  return (
    <div className="answerText">
      {segments(text, known, streaming).map((segment, i, all) => {
        const before = all[i - 1];
        if ("text" in segment) {
          const closed = before && "marker" in before ? closing(segment.text) : "";
          return <Words key={i} text={segment.text.slice(closed.length)} from={segment.from + closed.length} where={where} />;
        }
        const after = all[i + 1];
        return (
          <span key={i} className="keep">
            <Marker
              marker={segment.marker}
              citation={citationAt(citations, segment.marker, segment.occurrence)}
              passages={passages}
              onOpen={onOpen}
            />
            {after && "text" in after && <Words text={closing(after.text)} from={after.from} where={where} />}
          </span>
        );
      })}
      {streaming && <span className="caret" aria-hidden="true" />}
    </div>
  );
});

/** 。 and its like must not begin a line, not even after a button. */
const closing = (text: string): string => /^[。、．，.,」』）)]*/.exec(text)?.[0] ?? "";

/** Words that no source backs are underlined; the note below the answer says why. */
function Words({ text, from, where }: { text: string; from: number; where: Unbacked }) {
  return runs(text, from, where).map((run, i) =>
    run.doubt ? (
      <mark key={i} className="doubt">
        {run.text}
      </mark>
    ) : run.unbacked ? (
      <span key={i} className="unbacked">
        {run.text}
      </span>
    ) : (
      <Fragment key={i}>{run.text}</Fragment>
    ),
  );
}

interface MarkerProps {
  marker: number;
  citation: AnyCitation | null;
  passages: readonly AnyPassage[];
  onOpen: (place: Place) => void;
}

function Marker({ marker, citation, passages, onOpen }: MarkerProps) {
  const say = useSay();
  const passage = passages.find((p) => p.n === marker);
  const place =
    citation && visible<Citation>(citation)
      ? placeOf(citation, passages)
      : !citation && passage && visible<Passage>(passage)
        ? placeOfPassage(passage, marker)
        : null;
  if (!place) {
    return (
      <span className="marker gone" title={say("citationWithdrawn")}>
        {marker}
      </span>
    );
  }
  const doubtful = place.supported === false;
  return (
    <button
      type="button"
      className={doubtful ? "marker doubtful" : "marker"}
      aria-label={`${say("citationOpen", { marker, title: place.title })}${doubtful ? `（${say("unsupported")}）` : ""}`}
      title={`${place.title}${place.label ? ` · ${place.label}` : ""}`}
      onClick={() => onOpen(place)}
    >
      {marker}
    </button>
  );
}
