import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Account } from "../api/types";
import { Dialog } from "../shared/Dialog";
import { SelectField, TextField } from "../shared/Field";
import { useSay } from "../shared/language";
import { Await, Badge } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { wayWords } from "./ways";

/** All that a person counts as, and how much of each source they may read: as it is, or as it would be. */
export function SightDialog({ account, onClose }: { account: Account; onClose: () => void }) {
  const say = useSay();
  const [also, setAlso] = useState("");
  const groups = useLoad(() => unwrap(api.GET("/api/v1/admin/groups")), []);
  const sight = useLoad(
    () =>
      unwrap(
        api.GET("/api/v1/admin/users/{user_id}/sight", {
          params: { path: { user_id: account.id }, query: { also: also ? [also] : [] } },
        }),
      ),
    [account.id, also],
  );
  return (
    <Dialog title={say("sightOf", { name: account.display_name })} wide onClose={onClose}>
      <SelectField label={say("sightAlso")} value={also} onChange={(e) => setAlso(e.target.value)}>
        <option value="">{say("sightAlsoNone")}</option>
        {groups.data?.groups.map((group) => (
          <option key={group.name} value={`group:${group.name}`}>
            {group.name}
          </option>
        ))}
      </SelectField>
      <Await loaded={sight}>
        {(known) => {
          const held = known.principals.filter((one) => one.principal.startsWith("group:"));
          return (
            <>
              {known.disabled && <Badge tone="bad">{say("sightDisabled")}</Badge>}
              <h3>{say("sightSources")}</h3>
              <ul className="plainList">
                {known.sources.map((one) => (
                  <li key={one.source}>
                    <span>{one.source}</span>
                    <span className="rowSub">
                      {say("sightCount", { documents: one.documents.toLocaleString(), seen: one.seen.toLocaleString() })}
                    </span>
                    {one.withheld && <Badge tone="bad">{say("sightWithheld")}</Badge>}
                  </li>
                ))}
              </ul>
              <h3>{say("sightGroups")}</h3>
              {held.length === 0 ? (
                <p className="hint">{say("sightNoGroups")}</p>
              ) : (
                <ul className="plainList">
                  {held.map((one) => (
                    <li key={one.principal}>{wayWords(one.way, known.names, say)}</li>
                  ))}
                </ul>
              )}
            </>
          );
        }}
      </Await>
      <OneDocument account={account} also={also} />
    </Dialog>
  );
}

/** Whether the person may read this document, and by which rule: what each layer of its access says of them. */
function OneDocument({ account, also }: { account: Account; also: string }) {
  const say = useSay();
  const [typed, setTyped] = useState("");
  const [document, setDocument] = useState("");
  return (
    <>
      <h3>{say("sightDocument")}</h3>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          setDocument(typed.trim());
        }}
      >
        <TextField label={say("sightDocumentName")} hint={say("sightDocumentHint")} value={typed} spellCheck={false} onChange={(e) => setTyped(e.target.value)} />
        <div className="actions left">
          <button type="submit" className="button small" disabled={!typed.trim()}>
            {say("sightDocumentAsk")}
          </button>
        </div>
      </form>
      {document && <Ruled key={`${document} ${also}`} user={account.id} document={document} also={also} />}
    </>
  );
}

function Ruled({ user, document, also }: { user: string; document: string; also: string }) {
  const say = useSay();
  const found = useLoad(
    () => unwrap(api.GET("/api/v1/admin/readers", { params: { query: { document, user, also: also ? [also] : [] } } })),
    [document, user, also],
  );
  return (
    <Await loaded={found}>
      {({ title, withheld, verdicts, names }) => {
        const verdict = verdicts[0];
        if (!verdict) return null;
        const reads = verdict.reads;
        return (
          <div role="status">
            <p>
              {title} <Badge tone={reads ? "good" : "bad"}>{say(reads ? "sightReads" : "sightReadsNot")}</Badge>
            </p>
            {withheld && <p className="rowProblem">{say("sightWithheld")}</p>}
            <ul className="plainList">
              {verdict.rulings.length === 0 && <li>{say("sightNoRule")}</li>}
              {verdict.rulings.map((ruling, i) => (
                <li key={i}>
                  <Badge tone={ruling.admits ? "good" : "bad"}>{say(ruling.admits ? "sightAdmits" : "sightRefuses")}</Badge>
                  <span>
                    {ruling.denied_by.length > 0
                      ? say("sightDeniedBy", { way: ruling.denied_by.map((way) => wayWords(way, names, say)).join("、") })
                      : ruling.allowed_by.length > 0
                        ? say("sightAllowedBy", { way: ruling.allowed_by.map((way) => wayWords(way, names, say) || user).join("、") })
                        : say("sightNotAllowed", { names: ruling.allow.join("、") || say("entryNobody") })}
                  </span>
                </li>
              ))}
            </ul>
          </div>
        );
      }}
    </Await>
  );
}
