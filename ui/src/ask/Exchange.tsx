import { memo, useState } from "react";
import { explain } from "../api/client";
import type { AnyCitation, AnyPassage, Message, Statement } from "../api/types";
import { copyText } from "../shared/copy";
import { Icon } from "../shared/Icon";
import { useLanguage, useSay } from "../shared/language";
import type { Say } from "../shared/text";
import { AnswerText } from "./AnswerText";
import type { Live } from "./asking";
import { CitationList, PassageList, PointerList } from "./CitationList";
import { asText, type Place } from "./citations";
import { Rating } from "./Rating";

interface Opening {
  opened: Place | null;
  onOpen: (place: Place) => void;
}

const bare = (text: string) => text.replace(/\s+/g, " ").trim();

/** A question, and what was searched for in its stead: whoever is misunderstood sees it there. */
function Asked({ question, searched = question }: { question: string; searched?: string }) {
  const say = useSay();
  return (
    <div className="asked">
      <h2 className="offscreen">{say("you")}</h2>
      <p>{question}</p>
      {bare(searched) !== bare(question) && <p className="searched">{say("searchedFor", { question: searched })}</p>}
    </div>
  );
}

/** One question with its answer, as it stands in the conversation. */
export const Exchange = memo(function Exchange({ message, opened, onOpen, onAgain }: Opening & { message: Message; onAgain: (question: string) => void }) {
  const say = useSay();
  const answering = message.ended === "answering";
  return (
    <article className={answering ? "exchange live" : "exchange"} aria-busy={answering}>
      <Asked question={message.question} searched={message.searched} />
      <div className="answer">
        <h2 className="offscreen">{say("answer")}</h2>
        <Ended message={message} opened={opened} onOpen={onOpen} onAgain={onAgain} />
      </div>
    </article>
  );
});

function Ended({ message, opened, onOpen, onAgain }: Opening & { message: Message; onAgain: (question: string) => void }) {
  const say = useSay();
  const { answer, citations, passages, statements, near, conflicts, ended } = message;
  const open = statements.filter((s) => !s.supported);
  if (ended === "answering") return <Working said={say("stageAnswering")} />;
  if (ended === "no_evidence") {
    return (
      <>
        <NoEvidence said={answer} near={near.length > 0} />
        <PointerList heading={say("noEvidencePointed")} pointers={near} opened={opened} onOpen={onOpen} />
        <PassageList
          heading={say("noEvidenceNear")}
          passages={passages.filter((p) => !near.some((one) => one.n === p.n))}
          opened={opened}
          onOpen={onOpen}
        />
        {near.length > 0 && (
          <div className="noEvidence quiet">
            <Tips />
          </div>
        )}
        <div className="answerFoot">
          <Rating answerId={message.id} given={message.rating} />
        </div>
      </>
    );
  }
  return (
    <>
      {answer && <AnswerText text={answer} citations={citations} passages={passages} statements={statements} streaming={false} onOpen={onOpen} />}
      {open.length > 0 && (
        <p className="note">
          {say("unbacked", { count: open.length })}
          {open.some((s) => s.doubts.length > 0) && say("unbackedDoubts")}
        </p>
      )}
      {ended === "cancelled" && <Interrupted note={say("endedCancelled")} onAgain={() => onAgain(message.question)} />}
      {ended === "cut" && <Interrupted note={say(answer ? "endedCut" : "endedLost")} onAgain={() => onAgain(message.question)} />}
      {message.dangling > 0 && <p className="note">{say("dangling", { count: message.dangling })}</p>}
      <CitationList citations={citations} passages={passages} opened={opened} onOpen={onOpen} />
      {conflicts.length > 0 && <p className="note">{say("conflict")}</p>}
      <PointerList heading={say("conflictPlaces")} pointers={conflicts} opened={opened} onOpen={onOpen} />
      {!citations.length && passages.length > 0 && ended === "complete" && <p className="note">{say("notCited")}</p>}
      {!citations.length && <PassageList heading={say("passagesRead")} passages={passages} opened={opened} onOpen={onOpen} />}
      {answer && (
        <div className="answerFoot">
          <CopyButton answer={answer} citations={citations} />
          <Rating answerId={message.id} given={message.rating} />
        </div>
      )}
    </>
  );
}

/** What may help stands first where there is any, and what else may be tried below it. */
function NoEvidence({ said, near }: { said: string; near: boolean }) {
  const say = useSay();
  const plain = said.replace(/[。.\s]+$/, "");
  const own = plain && plain !== say("noEvidence") && plain !== "資料に見つかりません";
  return (
    <div className="noEvidence">
      <h3>{say(near ? "noSureAnswer" : "noEvidence")}</h3>
      <p>{own ? said : say(near ? "noEvidenceLeadNear" : "noEvidenceLead")}</p>
      {!near && <Tips />}
    </div>
  );
}

function Tips() {
  const say = useSay();
  return (
    <ul>
      <li>{say("noEvidenceTip1")}</li>
      <li>{say("noEvidenceTip2")}</li>
      <li>{say("noEvidenceTip3")}</li>
    </ul>
  );
}

function Interrupted({ note, onAgain }: { note: string; onAgain?: () => void }) {
  const say = useSay();
  return (
    <div className="interrupted">
      <Icon name="warning" />
      <span>{note}</span>
      {onAgain && (
        <button type="button" className="button small" onClick={onAgain}>
          <Icon name="retry" />
          {say("askAgain")}
        </button>
      )}
    </div>
  );
}

function CopyButton({ answer, citations }: { answer: string; citations: readonly AnyCitation[] }) {
  const say = useSay();
  const [done, setDone] = useState<"" | "copied" | "copyFailed">("");
  return (
    <>
      <button
        type="button"
        className="quietButton"
        onClick={() => {
          void copyText(asText({ answer, citations: [...citations] }, say)).then((ok) => {
            setDone(ok ? "copied" : "copyFailed");
            window.setTimeout(() => setDone(""), 2000);
          });
        }}
      >
        <Icon name={done === "copied" ? "check" : "copy"} />
        {say(done || "copy")}
      </button>
      <span role="status" className="offscreen">
        {done && say(done)}
      </span>
    </>
  );
}

function Working({ said, detail = "" }: { said: string; detail?: string }) {
  return (
    <p className="stage">
      <span className="pulse" aria-hidden="true" />
      {said}
      {detail && <span className="stageDetail">{detail}</span>}
    </p>
  );
}

export function stageText(live: Live, say: Say): string {
  if (live.stage === "waiting") {
    return live.position ? say("stageWaitingAt", { position: live.position }) : say("stageWaiting");
  }
  return say(live.stage === "sending" ? "stageSending" : live.stage === "searching" ? "stageSearching" : "stageAnswering");
}

const NONE: readonly AnyCitation[] = [];
const NO_STATEMENTS: readonly Statement[] = [];

/** The question being answered now, or one whose answer did not come. */
export function LiveExchange({ live, opened, onOpen, onAgain }: Opening & { live: Live; onAgain: (question: string) => void }) {
  const { say, language } = useLanguage();
  const passages: readonly AnyPassage[] = live.passages;
  const again = () => onAgain(live.question);
  return (
    <article className="exchange live" aria-busy={live.state === "running"}>
      <Asked question={live.question} />
      <div className="answer">
        <h2 className="offscreen">{say("answer")}</h2>
        {live.state === "running" && !live.text && (
          <Working said={stageText(live, say)} detail={live.passages.length > 0 ? say("foundPassages", { count: live.passages.length }) : ""} />
        )}
        {live.text && (
          <AnswerText text={live.text} citations={NONE} passages={passages} statements={NO_STATEMENTS} streaming={live.state === "running"} onOpen={onOpen} />
        )}
        {live.state === "stopped" && <Interrupted note={say("endedCancelled")} onAgain={again} />}
        {live.state === "broken" && <Interrupted note={say("endedBroken")} onAgain={again} />}
        {live.state === "failed" && (
          <div className="problem" role="alert">
            <p>
              <strong>{say(live.text ? "endedCancelled" : "answerFailed")}</strong>
              <br />
              {explain(live.error, language, say)}
            </p>
            <button type="button" className="button" onClick={again}>
              <Icon name="retry" />
              {say("retry")}
            </button>
          </div>
        )}
        {live.state !== "running" && live.text && (
          <PassageList heading={say("passagesRead")} passages={passages} opened={opened} onOpen={onOpen} />
        )}
      </div>
    </article>
  );
}
