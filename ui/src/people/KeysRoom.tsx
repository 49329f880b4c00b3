import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { IssuedKey, Key } from "../api/types";
import { copyText } from "../shared/copy";
import { day, minute } from "../shared/dates";
import { Confirm, Dialog, FormDialog, Invalid } from "../shared/Dialog";
import { CheckField, SelectField, TextField } from "../shared/Field";
import { Icon } from "../shared/Icon";
import { useLanguage, useSay } from "../shared/language";
import { Await, Badge, Empty } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";

type Scope = Key["scopes"][number];
const SCOPES: readonly Scope[] = ["query", "search", "documents", "admin"];

export function KeysRoom() {
  const say = useSay();
  const keys = useLoad(() => unwrap(api.GET("/api/v1/admin/keys")), []);
  const [adding, setAdding] = useState(false);
  const [issued, setIssued] = useState<IssuedKey | null>(null);
  const [revoking, setRevoking] = useState<Key | null>(null);
  return (
    <>
      <div className="titleRow">
        <h1>{say("keysTitle")}</h1>
        <button type="button" className="button primary" onClick={() => setAdding(true)}>
          <Icon name="plus" />
          {say("keyAdd")}
        </button>
      </div>
      <p className="lead">{say("keysLead")}</p>
      <Await loaded={keys}>
        {(data) =>
          data.keys.length === 0 ? (
            <Empty>{say("keysNone")}</Empty>
          ) : (
            <>
              <Rows keys={data.keys.filter((key) => !key.revoked_at)} onRevoke={setRevoking} />
              <Revoked keys={data.keys.filter((key) => key.revoked_at)} />
            </>
          )
        }
      </Await>
      {adding && (
        <KeyForm
          onClose={() => setAdding(false)}
          onIssued={(key) => {
            setIssued(key);
            keys.reload();
          }}
        />
      )}
      {issued && <Secret issued={issued} onClose={() => setIssued(null)} />}
      {revoking && (
        <Confirm
          title={say("keyDeleteTitle")}
          body={say("keyDeleteBody", { name: revoking.name })}
          act={say("keyRevoke")}
          onClose={() => setRevoking(null)}
          onConfirm={async () => {
            await unwrap(api.DELETE("/api/v1/admin/keys/{key_id}", { params: { path: { key_id: revoking.id } } }));
            keys.reload();
          }}
        />
      )}
    </>
  );
}

function Rows({ keys, onRevoke }: { keys: readonly Key[]; onRevoke?: (key: Key) => void }) {
  const { say, language } = useLanguage();
  return (
    <ul className="rows">
      {keys.map((key) => (
        <li key={key.id} className={key.revoked_at ? "row faded" : "row"}>
          <div className="rowMain">
            <span className="rowTitle">{key.name}</span>
            <span className="rowSub">
              <code>{key.prefix}…</code> · {say("keyUser")} {key.user_id} · {key.scopes.map((s) => say(`scope_${s}`)).join("・")}
            </span>
            <span className="rowSub">
              {say("keyCreated")} {day(key.created_at, language)} · {say("keyExpires")}{" "}
              {key.expires_at ? day(key.expires_at, language) : say("keyNeverExpires")} · {say("keyUsed")}{" "}
              {key.last_used_at ? minute(key.last_used_at, language) : say("keyNeverUsed")}
            </span>
          </div>
          {onRevoke ? (
            <button type="button" className="button small" onClick={() => onRevoke(key)} aria-label={`${say("keyRevoke")}: ${key.name}`}>
              {say("keyRevoke")}
            </button>
          ) : (
            <Badge tone="plain">{say("keyRevoked")}</Badge>
          )}
        </li>
      ))}
    </ul>
  );
}

/** Out of the way: every command of the console leaves one. */
function Revoked({ keys }: { keys: readonly Key[] }) {
  const say = useSay();
  if (!keys.length) return null;
  return (
    <details className="moreFields">
      <summary>{say("keysRevoked", { n: keys.length })}</summary>
      <Rows keys={keys} />
    </details>
  );
}

function KeyForm({ onClose, onIssued }: { onClose: () => void; onIssued: (key: IssuedKey) => void }) {
  const say = useSay();
  const people = useLoad(() => unwrap(api.GET("/api/v1/admin/users")), []);
  const [name, setName] = useState("");
  const [user, setUser] = useState("");
  const [days, setDays] = useState("365");
  const [scopes, setScopes] = useState<ReadonlySet<Scope>>(new Set(["query", "search"]));
  return (
    <FormDialog
      title={say("keyAdd")}
      act={say("keyAdd")}
      onClose={onClose}
      onSubmit={async () => {
        for (const [value, key] of [[name, "keyName"], [user, "keyUser"]] as const) {
          if (!value.trim()) throw new Invalid(say("fillIn", { field: say(key) }));
        }
        if (!scopes.size) throw new Invalid(say("fillIn", { field: say("keyScopes") }));
        onIssued(
          await unwrap(
            api.POST("/api/v1/admin/keys", {
              body: {
                name: name.trim(),
                user_id: user,
                scopes: SCOPES.filter((s) => scopes.has(s)),
                expires_in_days: days.trim() ? Number(days) : null,
              },
            }),
          ),
        );
      }}
    >
      <TextField label={say("keyName")} value={name} maxLength={100} autoFocus onChange={(e) => setName(e.target.value)} />
      <SelectField label={say("keyUser")} value={user} onChange={(e) => setUser(e.target.value)}>
        <option value="" />
        {people.data?.users
          .filter((u) => !u.disabled)
          .map((u) => (
            <option key={u.id} value={u.id}>
              {u.display_name}
              {say("bracketed", { what: u.id })}
            </option>
          ))}
      </SelectField>
      <fieldset className="choices">
        <legend>{say("keyScopes")}</legend>
        {SCOPES.map((scope) => (
          <CheckField
            key={scope}
            label={say(`scope_${scope}`)}
            checked={scopes.has(scope)}
            onChange={(event) => {
              const next = new Set(scopes);
              if (event.target.checked) next.add(scope);
              else next.delete(scope);
              setScopes(next);
            }}
          />
        ))}
      </fieldset>
      <TextField label={say("keyDays")} hint={say("keyDaysHint")} type="number" min={1} max={3650} value={days} onChange={(e) => setDays(e.target.value)} />
    </FormDialog>
  );
}

function Secret({ issued, onClose }: { issued: IssuedKey; onClose: () => void }) {
  const say = useSay();
  const [copied, setCopied] = useState<boolean | null>(null);
  return (
    <Dialog title={say("keySecretTitle")} onClose={onClose} firm>
      <div className="form">
        <p>{say("keySecretBody")}</p>
        <p className="secret">
          <code>{issued.secret}</code>
        </p>
        <p role="status" className="hint">
          {copied === null ? "" : say(copied ? "copied" : "copyFailed")}
        </p>
        <div className="actions">
          <button type="button" className="button" onClick={() => void copyText(issued.secret).then(setCopied)}>
            <Icon name="copy" />
            {say("keyCopy")}
          </button>
          <button type="button" className="button primary" onClick={onClose}>
            {say("keySecretDone")}
          </button>
        </div>
      </div>
    </Dialog>
  );
}
