import { Fragment, memo, useMemo, type ReactNode } from "react";
import type { AnyCitation, AnyPassage, Citation, Passage, Statement } from "../api/types";
import { useSay } from "../shared/language";
import { blocks, signs, type Block, type Reach, type Signs } from "./blocks";
import { citationAt, placeOf, placeOfPassage, visible, type Place } from "./citations";
import { between, segments, type Segment } from "./markers";
import { TableOf } from "./TableOf";
import { runs, unbacked, type Unbacked } from "./statements";

interface Props {
  text: string;
  citations: readonly AnyCitation[];
  passages: readonly AnyPassage[];
  statements: readonly Statement[];
  streaming: boolean;
  onOpen: (place: Place) => void;
}

/** The answer as text, in the shape of its lines (`blocks.ts`): never HTML, and only `[n]` becomes a button. */
export const AnswerText = memo(function AnswerText({ text, citations, passages, statements, streaming, onOpen }: Props) {
  const known = useMemo(
    () => new Set([...citations.map((c) => c.marker), ...passages.map((p) => p.n)]),
    [citations, passages],
  );
  const where = useMemo(() => unbacked(text, statements), [text, statements]);
  const all = segments(text, known, streaming);
  const shape = blocks(text);
  const shown = signs(text, shape);
  const part = ({ from, to }: Reach) => (
    <Part segments={between(all, from, to)} where={where} signs={shown} citations={citations} passages={passages} onOpen={onOpen} />
  );
  return (
    <div className="answerText">
      {shape.map((block, i) => (
        <Shape key={i} block={block} part={part} />
      ))}
      {streaming && <span className="caret" aria-hidden="true" />}
    </div>
  );
});

function Shape({ block, part }: { block: Block; part: (reach: Reach) => ReactNode }) {
  switch (block.kind) {
    case "text":
      return <p>{part(block)}</p>;
    case "heading":
      return <h3>{part(block)}</h3>;
    case "code":
      return (
        <pre tabIndex={0}>
          <code>{part(block)}</code>
        </pre>
      );
    case "list":
      return (
        <ul>
          {block.items.map((item) => (
            <li key={item.from} className={`depth${item.depth}`}>
              <span className="itemMark">{item.mark}</span>
              <span>{part(item)}</span>
            </li>
          ))}
        </ul>
      );
    case "table":
      return <TableOf table={block} part={part} />;
  }
}

interface PartProps {
  segments: readonly Segment[];
  where: Unbacked;
  signs: Signs;
  citations: readonly AnyCitation[];
  passages: readonly AnyPassage[];
  onOpen: (place: Place) => void;
}

/** Words and markers of a paragraph, an item or a cell. */
function Part({ segments: all, where, signs: shown, citations, passages, onOpen }: PartProps) {
  return all.map((segment, i) => {
    const before = all[i - 1];
    if ("text" in segment) {
      const closed = before && "marker" in before ? closing(segment.text) : "";
      return <Words key={i} text={segment.text.slice(closed.length)} from={segment.from + closed.length} where={where} signs={shown} />;
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
        {after && "text" in after && <Words text={closing(after.text)} from={after.from} where={where} signs={shown} />}
      </span>
    );
  });
}

/** 。 and its like must not begin a line, not even after a button. */
const closing = (text: string): string => /^[。、．，.,」』）)]*/.exec(text)?.[0] ?? "";

/** Words that no source backs are underlined; the note below the answer says why. */
function Words({ text, from, where, signs: shown }: { text: string; from: number; where: Unbacked; signs: Signs }) {
  return runs(text, from, where, shown).map((run, i) => {
    const words = run.code ? <code>{run.text}</code> : run.strong ? <strong>{run.text}</strong> : run.text;
    if (run.doubt)
      return (
        <mark key={i} className="doubt">
          {words}
        </mark>
      );
    if (run.unbacked)
      return (
        <span key={i} className="unbacked">
          {words}
        </span>
      );
    return <Fragment key={i}>{words}</Fragment>;
  });
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
