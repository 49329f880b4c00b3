import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Entry } from "../api/types";
import { FormDialog } from "../shared/Dialog";
import { useSay } from "../shared/language";
import { Await, Badge } from "../shared/Notice";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { MeansField, meansOf, said, Would, type Means } from "./MeansField";

/** An entry of a directory: what it is there, who it is here, and what another answer would change. */
export function EntryDialog({ entry, onClose, onSaved }: { entry: Entry; onClose: () => void; onSaved: () => void }) {
  const say = useSay();
  const person = entry.kind === "person";
  const [means, setMeans] = useState<Means>(() => (entry.by_hand ? meansOf(entry.principal) : { kind: "rule", name: "" }));
  const shown = entry.title || entry.name;

  async function save() {
    const wanted = said(means, say);
    if (wanted === null && !entry.by_hand) return;
    await unwrap(api.PUT("/api/v1/admin/mappings", { body: { who: `entry:${entry.guid}`, means: wanted } }));
    onSaved();
  }

  return (
    <FormDialog title={say("entryOf", { name: shown })} act={say("save")} wide onClose={onClose} onSubmit={save}>
      <dl className="facts">
        <Fact label="columnHere" value={entry.principal ?? say("entryNobody")} />
        <Fact label="entryAccount" value={entry.name} />
        <Fact label="entryMail" value={entry.mail} />
        <Fact label="directoriesTitle" value={entry.directory} />
        <div>
          <dt>DN</dt>
          <dd className="path">{entry.dn}</dd>
        </div>
        {entry.sid && (
          <div>
            <dt>SID</dt>
            <dd className="path">{entry.sid}</dd>
          </div>
        )}
      </dl>
      {entry.disabled && <Badge tone="plain">{say("entryOff")}</Badge>}
      {entry.problem && <p className="rowProblem">{entry.problem}</p>}
      <Neighbours guid={entry.guid} person={person} />
      <MeansField
        means={means}
        kinds={person ? ["rule", "user", "nobody"] : ["rule", "group", "nobody"]}
        words={person ? {} : { rule: "meansRuleGroup" }}
        onChange={setMeans}
      />
      {means.kind === "user" && <Would node={entry.node} userId={means.name.trim()} />}
    </FormDialog>
  );
}

function Fact({ label, value }: { label: TextKey; value: string }) {
  const say = useSay();
  if (!value) return null;
  return (
    <div>
      <dt>{say(label)}</dt>
      <dd className="path">{value}</dd>
    </div>
  );
}

function Neighbours({ guid, person }: { guid: string; person: boolean }) {
  const around = useLoad(() => unwrap(api.GET("/api/v1/admin/directory-entries/{guid}", { params: { path: { guid } } })), [guid]);
  return (
    <Await loaded={around}>
      {({ members, total, groups }) => (
        <>
          {!person && <Some title="entryMembers" none="entryNoMembers" some={members} total={total} />}
          {(person || groups.length > 0) && <Some title="entryIn" none="entryInNone" some={groups} total={groups.length} />}
        </>
      )}
    </Await>
  );
}

const AT_FIRST = 30;

function Some({ title, none, some, total }: { title: TextKey; none: TextKey; some: readonly Entry[]; total: number }) {
  const say = useSay();
  const shown = some.slice(0, AT_FIRST);
  return (
    <div>
      <h3>{say(title)}</h3>
      {total === 0 && <p className="hint">{say(none)}</p>}
      <p className="names">{shown.map((one) => one.title || one.name).join("、")}</p>
      {total > shown.length && <p className="hint">{say("entryMembersMore", { count: total - shown.length })}</p>}
    </div>
  );
}
