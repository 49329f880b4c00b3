import { useEffect, useState } from "react";
import { api, unwrap } from "../api/client";
import type { Synonyms } from "../api/types";
import { LinesField } from "../shared/Field";
import { useSay } from "../shared/language";
import { Await, Problem } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { parse, shown } from "./synonyms";

export function SynonymsRoom() {
  const say = useSay();
  const synonyms = useLoad(() => unwrap(api.GET("/api/v1/admin/synonyms")), []);
  return (
    <>
      <h1>{say("synonymsTitle")}</h1>
      <p className="lead">{say("synonymsLead")}</p>
      <Await loaded={synonyms}>{(kept) => <Editor kept={kept} />}</Await>
    </>
  );
}

function Editor({ kept }: { kept: Synonyms }) {
  const say = useSay();
  const [text, setText] = useState(() => shown(kept.groups));
  const [saved, setSaved] = useState(kept);
  const [saving, setSaving] = useState(false);
  const [done, setDone] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const changed = text !== shown(saved.groups);

  useEffect(() => {
    if (!changed) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [changed]);

  async function save() {
    setSaving(true);
    setDone(false);
    setError(null);
    try {
      const now = await unwrap(api.PUT("/api/v1/admin/synonyms", { body: { groups: parse(text), revision: saved.revision } }));
      setSaved(now);
      setText(shown(now.groups));
      setDone(true);
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
        label={say("synonymsLines")}
        hint={say("synonymsHint")}
        placeholder={say("synonymsExample")}
        rows={16}
        value={text}
        disabled={saving}
        onChange={(event) => {
          setText(event.target.value);
          setDone(false);
        }}
      />
      {error ? <Problem error={error} /> : null}
      <div className="acts">
        <button type="submit" className="button primary" disabled={saving || !changed}>
          {say("save")}
        </button>
        <span role="status">{done ? say("synonymsSaved", { count: saved.groups.length }) : ""}</span>
      </div>
    </form>
  );
}
