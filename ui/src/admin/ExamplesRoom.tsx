import { useState } from "react";
import { api, unwrap } from "../api/client";
import { LinesField } from "../shared/Field";
import { useSay } from "../shared/language";
import { Await, Problem } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";

/** What the empty page offers to ask. */
export function ExamplesRoom() {
  const say = useSay();
  const examples = useLoad(() => unwrap(api.GET("/api/v1/examples")), []);
  return (
    <>
      <h1>{say("examplesTitle")}</h1>
      <p className="lead">{say("examplesLead")}</p>
      <Await loaded={examples}>{({ questions }) => <Editor kept={questions} />}</Await>
    </>
  );
}

function Editor({ kept }: { kept: string[] }) {
  const say = useSay();
  const [text, setText] = useState(() => kept.join("\n"));
  const [saving, setSaving] = useState(false);
  const [saved, setSaved] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);

  async function save() {
    setSaving(true);
    setSaved(null);
    setError(null);
    try {
      const { questions } = await unwrap(api.PUT("/api/v1/admin/examples", { body: { questions: text.split("\n") } }));
      setText(questions.join("\n"));
      setSaved(questions.length);
    } catch (why) {
      setError(why);
    } finally {
      setSaving(false);
    }
  }

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <LinesField
        label={say("examplesLines")}
        hint={say("examplesHint")}
        rows={6}
        value={text}
        disabled={saving}
        onChange={(event) => {
          setText(event.target.value);
          setSaved(null);
        }}
      />
      {error ? <Problem error={error} /> : null}
      <div className="acts">
        <button type="submit" className="button primary" disabled={saving}>
          {say("save")}
        </button>
        <span role="status">{saved === null ? "" : say("examplesSaved", { count: saved })}</span>
      </div>
    </form>
  );
}
