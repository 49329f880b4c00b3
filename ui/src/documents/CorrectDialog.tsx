import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { About } from "../api/types";
import { FormDialog, Invalid } from "../shared/Dialog";
import { TextField } from "../shared/Field";
import { useSay } from "../shared/language";

interface Props {
  known: About;
  onClose: () => void;
  onDone: () => void;
}

/** What a person knows better than the file. */
export function CorrectDialog({ known, onClose, onDone }: Props) {
  const say = useSay();
  const given = known.given_title ?? known.title;
  const [title, setTitle] = useState(known.title);
  const [date, setDate] = useState(known.in_force_corrected ? (known.in_force ?? "") : "");
  const corrected = known.given_title !== null || known.in_force_corrected;
  const path = { params: { path: { document_id: known.id } } };

  async function save() {
    const wanted = title.trim();
    if (!wanted) throw new Invalid(say("fillIn", { field: say("docCorrectName") }));
    const body = { title: wanted === given ? null : wanted, in_force: date || null };
    await unwrap(api.PUT("/api/v1/documents/{document_id}/correction", { ...path, body }));
    onDone();
  }

  function restore() {
    setTitle(given);
    setDate("");
  }

  return (
    <FormDialog title={say("docCorrectTitle")} act={say("save")} onSubmit={save} onClose={onClose}>
      <p className="hint">{say("docCorrectLead")}</p>
      <TextField
        label={say("docCorrectName")}
        hint={say("docCorrectNameHint", { title: given })}
        value={title}
        maxLength={300}
        onChange={(event) => setTitle(event.target.value)}
      />
      <TextField
        label={say("docCorrectDate")}
        hint={say("docCorrectDateHint")}
        type="date"
        min="1868-01-01"
        max="2199-12-31"
        value={date}
        onChange={(event) => setDate(event.target.value)}
      />
      {corrected && (
        <button type="button" className="quietButton" onClick={restore}>
          {say("docRestore")}
        </button>
      )}
    </FormDialog>
  );
}
