import { useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { draft, keepDraft } from "./drafts";
import { Composition } from "./ime";
import { Narrowing } from "./Narrowing";

const LONGEST = 4000;

interface Props {
  conversationId: string | null;
  /** A question of this conversation is being answered. */
  busy: boolean;
  onSend: (question: string) => void;
  onStop: () => void;
}

export function Composer({ conversationId, busy, onSend, onStop }: Props) {
  const say = useSay();
  const [text, setText] = useState(() => draft(conversationId));
  const area = useRef<HTMLTextAreaElement>(null);
  const composition = useRef(new Composition());
  const id = useId();

  const tooLong = [...text].length > LONGEST;

  useEffect(() => {
    setText(draft(conversationId));
    // A keyboard that jumps up on a phone hides what one came to read.
    if (window.matchMedia("(hover: hover)").matches) area.current?.focus();
  }, [conversationId]);

  useLayoutEffect(() => {
    const box = area.current;
    if (!box) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);

  function change(next: string) {
    setText(next);
    keepDraft(conversationId, next);
  }

  function send() {
    const question = text.trim();
    if (!question || tooLong || busy) return;
    change("");
    onSend(question);
    area.current?.focus();
  }

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label htmlFor={id} className="offscreen">
        {say("question")}
      </label>
      <div className="composerBox">
        <textarea
          id={id}
          ref={area}
          rows={1}
          value={text}
          placeholder={say("questionPlaceholder")}
          aria-describedby={`${id}-hint`}
          aria-invalid={tooLong || undefined}
          enterKeyHint="send"
          onChange={(event) => change(event.target.value)}
          onCompositionStart={() => composition.current.start()}
          onCompositionEnd={(event) => composition.current.end(event.timeStamp)}
          onBlur={() => composition.current.reset()}
          onKeyDown={(event) => {
            if (composition.current.sends(event.nativeEvent)) {
              event.preventDefault();
              send();
            }
          }}
        />
        {busy ? (
          <button type="button" className="sendButton stopButton" onClick={onStop} aria-label={say("stop")} title={say("stop")}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" className="sendButton" disabled={!text.trim() || tooLong} aria-label={say("send")} title={say("send")}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <Narrowing />
      <p className="composerHint" id={`${id}-hint`}>
        {tooLong ? (
          <span className="fieldProblem">{say("questionLong", { max: LONGEST })}</span>
        ) : (
          // A phone's Enter does what its keyboard wills; a mouse comes with a keyboard of keys.
          say(window.matchMedia("(hover: hover)").matches ? "questionHint" : "questionHintTouch")
        )}
      </p>
    </form>
  );
}
