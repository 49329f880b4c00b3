import { useState } from "react";
import { api, unwrap } from "../api/client";
import { principalName } from "../documents/UploadsPage";
import { Confirm, FormDialog, Invalid } from "../shared/Dialog";
import { TextField } from "../shared/Field";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Await, Badge } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { MeansField, said, Would, type Means } from "./MeansField";

const AT_ONCE = 100;

/** Names that documents' permissions hold: those that are nobody's, and those an administrator gave to somebody. */
export function Names() {
  const say = useSay();
  const strangers = useLoad(() => unwrap(api.GET("/api/v1/admin/strangers", { params: { query: { limit: AT_ONCE } } })), []);
  const mappings = useLoad(() => unwrap(api.GET("/api/v1/admin/mappings")), []);
  const [naming, setNaming] = useState<string | null>(null);
  const [dropping, setDropping] = useState<{ who: string; means: string } | null>(null);

  function changed() {
    strangers.reload();
    mappings.reload();
  }

  return (
    <section className="part" aria-label={say("namesTitle")}>
      <div className="titleRow">
        <h2>{say("namesTitle")}</h2>
        <button type="button" className="button small" onClick={() => setNaming("")}>
          <Icon name="plus" />
          {say("namesAdd")}
        </button>
      </div>
      <p className="lead">{say("namesLead")}</p>
      <h3>{say("namesUnknown")}</h3>
      <Await loaded={strangers}>
        {(found) =>
          found.total === 0 ? (
            <p className="hint">{say("namesUnknownNone")}</p>
          ) : (
            <>
              <ul className="rows">
                {found.strangers.map((one) => (
                  <li key={one.principal} className="row">
                    <div className="rowMain">
                      <span className="rowTitle path">{one.principal}</span>
                      <span className="rowSub">{say("namesIn", { sources: one.sources.join("、"), documents: one.documents })}</span>
                    </div>
                    {/^(user|group):/.test(one.principal) ? (
                      <button type="button" className="button small" aria-label={`${say("namesSet")}: ${one.principal}`} onClick={() => setNaming(one.principal)}>
                        {say("namesSet")}
                      </button>
                    ) : (
                      <Badge tone="plain">{say("namesNotThere")}</Badge>
                    )}
                  </li>
                ))}
              </ul>
              {found.total > found.strangers.length && (
                <p className="hint">{say("namesUnknownMore", { count: found.total - found.strangers.length })}</p>
              )}
            </>
          )
        }
      </Await>
      <h3>{say("namesSaid")}</h3>
      <Await loaded={mappings}>
        {(data) => {
          const named = data.mappings.filter((one) => !one.who.startsWith("entry:"));
          if (named.length === 0) return <p className="hint">{say("namesSaidNone")}</p>;
          return (
            <ul className="rows">
              {named.map((one) => (
                <li key={one.who} className="row">
                  <div className="rowMain">
                    <span className="rowTitle path">
                      {one.who} → {one.means === "nobody" ? say("entryNobody") : principalName(one.means, say)}
                    </span>
                  </div>
                  <button type="button" className="iconButton" aria-label={`${say("namesDrop")}: ${one.who}`} onClick={() => setDropping(one)}>
                    <Icon name="trash" />
                  </button>
                </li>
              ))}
            </ul>
          );
        }}
      </Await>
      {naming !== null && <NameForm name={naming} onClose={() => setNaming(null)} onSaved={changed} />}
      {dropping && (
        <Confirm
          title={say("namesDropTitle")}
          body={say("namesDropBody", { name: dropping.who, means: dropping.means })}
          act={say("namesDrop")}
          onClose={() => setDropping(null)}
          onConfirm={async () => {
            await unwrap(api.PUT("/api/v1/admin/mappings", { body: { who: dropping.who, means: null } }));
            changed();
          }}
        />
      )}
    </section>
  );
}

function NameForm({ name, onClose, onSaved }: { name: string; onClose: () => void; onSaved: () => void }) {
  const say = useSay();
  const [who, setWho] = useState(name);
  const [means, setMeans] = useState<Means>({ kind: name.startsWith("group:") ? "group" : "user", name: "" });

  async function save() {
    const wanted = who.trim();
    if (!/^(user|group):./.test(wanted)) throw new Invalid(say("namesNameHint"));
    await unwrap(api.PUT("/api/v1/admin/mappings", { body: { who: wanted, means: said(means, say) } }));
    onSaved();
  }

  return (
    <FormDialog title={name ? say("namesSetOf", { name }) : say("namesAdd")} act={say("save")} wide onClose={onClose} onSubmit={save}>
      {!name && (
        <TextField
          label={say("namesName")}
          hint={say("namesNameHint")}
          value={who}
          maxLength={300}
          autoFocus
          autoCapitalize="off"
          autoComplete="off"
          spellCheck={false}
          aria-required
          onChange={(e) => setWho(e.target.value)}
        />
      )}
      <MeansField means={means} kinds={["user", "group", "nobody"]} onChange={setMeans} />
      {means.kind === "user" && /^(user|group):./.test(who.trim()) && <Would node={who.trim()} userId={means.name.trim()} />}
    </FormDialog>
  );
}
