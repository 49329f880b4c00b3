import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Account } from "../api/types";
import { FormDialog, Invalid } from "../shared/Dialog";
import { CheckField, PasswordField, SelectField, TextField } from "../shared/Field";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Await, Badge, Empty } from "../shared/Notice";
import { useSession } from "../shared/session";
import { useLoad } from "../shared/useLoad";
import { SHORTEST_PASSWORD } from "./limits";
import { SightDialog } from "./SightDialog";

export function PeopleRoom() {
  const say = useSay();
  const people = useLoad(() => unwrap(api.GET("/api/v1/admin/users")), []);
  const [editing, setEditing] = useState<Account | "new" | null>(null);
  const [watching, setWatching] = useState<Account | null>(null);
  return (
    <>
      <div className="titleRow">
        <h1>{say("peopleTitle")}</h1>
        <button type="button" className="button primary" onClick={() => setEditing("new")}>
          <Icon name="plus" />
          {say("peopleAdd")}
        </button>
      </div>
      <Await loaded={people}>
        {(data) =>
          data.users.length === 0 ? (
            <Empty icon="person">{say("peopleNone")}</Empty>
          ) : (
            <ul className="rows">
              {data.users.map((account) => (
                <li key={account.id} className={account.disabled ? "row faded" : "row"}>
                  <div className="rowMain">
                    <span className="rowTitle">{account.display_name}</span>
                    <span className="rowSub">{[account.id, ...account.groups].join(" · ")}</span>
                  </div>
                  {account.disabled && <Badge tone="bad">{say("disabled")}</Badge>}
                  <Badge tone="plain">{say(account.role === "administrator" ? "roleAdministrator" : "roleMember")}</Badge>
                  <button
                    type="button"
                    className="iconButton"
                    aria-label={`${say("sightOpen")}: ${account.display_name}`}
                    onClick={() => setWatching(account)}
                  >
                    <Icon name="eye" />
                  </button>
                  <button
                    type="button"
                    className="iconButton"
                    aria-label={`${say("edit")}: ${account.display_name}`}
                    onClick={() => setEditing(account)}
                  >
                    <Icon name="pencil" />
                  </button>
                </li>
              ))}
            </ul>
          )
        }
      </Await>
      {watching && <SightDialog account={watching} onClose={() => setWatching(null)} />}
      {editing && (
        <PersonForm account={editing === "new" ? null : editing} onClose={() => setEditing(null)} onSaved={people.reload} />
      )}
    </>
  );
}

function PersonForm({ account, onClose, onSaved }: { account: Account | null; onClose: () => void; onSaved: () => void }) {
  const say = useSay();
  const { door } = useSession();
  const myself = door.at === "inside" && door.user.id === account?.id;
  const [id, setId] = useState("");
  const [name, setName] = useState(account?.display_name ?? "");
  const [role, setRole] = useState<Account["role"]>(account?.role ?? "member");
  const [password, setPassword] = useState("");
  const [disabled, setDisabled] = useState(account?.disabled ?? false);
  const [groups, setGroups] = useState<ReadonlySet<string>>(new Set());
  const known = useLoad(() => (account ? Promise.resolve(null) : unwrap(api.GET("/api/v1/admin/groups"))), []);

  async function save() {
    if (!account && !id.trim()) throw new Invalid(say("fillIn", { field: say("userId") }));
    if (!name.trim()) throw new Invalid(say("fillIn", { field: say("displayName") }));
    if ((!account || password) && [...password].length < SHORTEST_PASSWORD) throw new Invalid(say("passwordShort"));
    if (account) {
      const body = {
        display_name: name.trim(),
        ...(role !== account.role ? { role } : {}),
        ...(disabled !== account.disabled ? { disabled } : {}),
        ...(password ? { password } : {}),
      };
      await unwrap(api.PATCH("/api/v1/admin/users/{user_id}", { params: { path: { user_id: account.id } }, body }));
    } else {
      const body = { id: id.trim(), display_name: name.trim(), role, password, groups: [...groups] };
      await unwrap(api.POST("/api/v1/admin/users", { body }));
    }
    onSaved();
  }

  return (
    <FormDialog title={say(account ? "peopleEdit" : "peopleAdd")} act={say("save")} onClose={onClose} onSubmit={save}>
      {account ? (
        <p className="rowSub">{account.id}</p>
      ) : (
        <TextField label={say("userId")} value={id} maxLength={64} autoCapitalize="off" autoComplete="off" spellCheck={false} autoFocus onChange={(e) => setId(e.target.value)} />
      )}
      <TextField label={say("displayName")} value={name} maxLength={100} autoComplete="off" onChange={(e) => setName(e.target.value)} />
      <SelectField label={say("role")} value={role} disabled={myself} onChange={(e) => setRole(e.target.value as Account["role"])}>
        <option value="member">{say("roleMember")}</option>
        <option value="administrator">{say("roleAdministrator")}</option>
      </SelectField>
      <PasswordField
        label={say(account ? "passwordNew" : "password")}
        hint={say(account ? "passwordKeep" : "passwordHint")}
        autoComplete="new-password"
        value={password}
        onChange={(e) => setPassword(e.target.value)}
      />
      {known.data && known.data.groups.length > 0 && (
        <fieldset className="choices">
          <legend>{say("groupsOf")}</legend>
          {known.data.groups.map((group) => (
            <CheckField
              key={group.name}
              label={group.name}
              checked={groups.has(group.name)}
              onChange={(e) => {
                const next = new Set(groups);
                if (e.target.checked) next.add(group.name);
                else next.delete(group.name);
                setGroups(next);
              }}
            />
          ))}
        </fieldset>
      )}
      {account && !myself && <CheckField label={say("disable")} checked={disabled} onChange={(e) => setDisabled(e.target.checked)} />}
    </FormDialog>
  );
}
