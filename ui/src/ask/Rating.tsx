import { useEffect, useId, useRef, useState, type FormEvent } from "react";
import { api, explain, unwrap } from "../api/client";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";

type Value = -1 | 0 | 1;

export function Rating({ answerId, given }: { answerId: string; given: Value }) {
  const { say, language } = useLanguage();
  const [value, setValue] = useState<Value>(given);
  const [asking, setAsking] = useState(false);
  const [comment, setComment] = useState("");
  const [note, setNote] = useState("");
  const id = useId();
  const form = useRef<HTMLFormElement>(null);

  useEffect(() => {
    if (asking) form.current?.scrollIntoView({ block: "nearest" });
  }, [asking]);

  async function rate(next: Value, words?: string) {
    const before = value;
    setValue(next);
    setNote("");
    try {
      await unwrap(
        api.PUT("/api/v1/answers/{answer_id}/rating", {
          params: { path: { answer_id: answerId } },
          body: words ? { value: next, comment: words } : { value: next },
        }),
      );
      if (words !== undefined) {
        setAsking(false);
        setComment("");
        setNote(say("rateThanks"));
      } else setAsking(next !== 0);
    } catch (error) {
      setValue(before);
      setNote(explain(error, language, say));
    }
  }

  return (
    <div className="rating">
      <div role="group" aria-label={say("rating")} className="ratingButtons">
        <button type="button" className="quietButton" aria-pressed={value === 1} onClick={() => void rate(value === 1 ? 0 : 1)}>
          <Icon name="good" />
          {say("rateGood")}
        </button>
        <button type="button" className="quietButton" aria-pressed={value === -1} onClick={() => void rate(value === -1 ? 0 : -1)}>
          <Icon name="bad" />
          {say("rateBad")}
        </button>
      </div>
      {asking && (
        <form
          ref={form}
          className="ratingComment"
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            void rate(value, comment.trim());
          }}
        >
          <label htmlFor={id}>{say(value === 1 ? "rateComment" : "rateCommentBad")}</label>
          <textarea id={id} className="input" rows={2} maxLength={2000} value={comment} onChange={(e) => setComment(e.target.value)} />
          <div className="actions">
            <button type="button" className="button small" onClick={() => setAsking(false)}>
              {say("close")}
            </button>
            <button type="submit" className="button primary small" disabled={!comment.trim()}>
              {say("rateSend")}
            </button>
          </div>
        </form>
      )}
      <p role="status" className="ratingNote">
        {note}
      </p>
    </div>
  );
}
