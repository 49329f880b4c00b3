import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Group } from "../api/types";
import { Confirm, FormDialog, Invalid } from "../shared/Dialog";
import { LinesField, TextField, lines } from "../shared/Field";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Await, Empty } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";

export function GroupsRoom() {
  const say = useSay();
  const groups = useLoad(() => unwrap(api.GET("/api/v1/admin/groups")), []);
  const [editing, setEditing] = useState<Group | "new" | null>(null);
  const [deleting, setDeleting] = useState<Group | null>(null);
  return (
    <>
      <div className="titleRow">
        <h1>{say("groupsTitle")}</h1>
        <button type="button" className="button primary" onClick={() => setEditing("new")}>
          <Icon name="plus" />
          {say("groupAdd")}
        </button>
      </div>
      <p className="lead">{say("groupsLead")}</p>
      <Await loaded={groups}>
        {(data) =>
          data.groups.length === 0 ? (
            <Empty icon="person">{say("groupsNone")}</Empty>
          ) : (
            <ul className="rows">
              {data.groups.map((group) => (
                <li key={group.name} className="row">
                  <div className="rowMain">
                    <span className="rowTitle">{group.name}</span>
                    <span className="rowSub">
                      {say("groupCount", { count: group.members.length })}
                      {group.members.length > 0 && ` · ${group.members.slice(0, 6).join("、")}${group.members.length > 6 ? "…" : ""}`}
                    </span>
                  </div>
                  <button type="button" className="iconButton" aria-label={`${say("edit")}: ${group.name}`} onClick={() => setEditing(group)}>
                    <Icon name="pencil" />
                  </button>
                  <button type="button" className="iconButton" aria-label={`${say("delete")}: ${group.name}`} onClick={() => setDeleting(group)}>
                    <Icon name="trash" />
                  </button>
                </li>
              ))}
            </ul>
          )
        }
      </Await>
      {editing && (
        <GroupForm group={editing === "new" ? null : editing} onClose={() => setEditing(null)} onSaved={groups.reload} />
      )}
      {deleting && (
        <Confirm
          title={say("groupDeleteTitle")}
          body={say("groupDeleteBody", { name: deleting.name })}
          act={say("delete")}
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await unwrap(api.DELETE("/api/v1/admin/groups/{name}", { params: { path: { name: deleting.name } } }));
            groups.reload();
          }}
        />
      )}
    </>
  );
}

function GroupForm({ group, onClose, onSaved }: { group: Group | null; onClose: () => void; onSaved: () => void }) {
  const say = useSay();
  const [name, setName] = useState(group?.name ?? "");
  const [members, setMembers] = useState(group?.members.join("\n") ?? "");
  return (
    <FormDialog
      title={say(group ? "groupEdit" : "groupAdd")}
      act={say("save")}
      onClose={onClose}
      onSubmit={async () => {
        const wanted = name.trim();
        if (!wanted) throw new Invalid(say("fillIn", { field: say("groupName") }));
        await unwrap(
          api.PUT("/api/v1/admin/groups/{name}", { params: { path: { name: wanted } }, body: { members: lines(members) } }),
        );
        onSaved();
      }}
    >
      {group ? (
        <p className="rowTitle">{group.name}</p>
      ) : (
        <TextField label={say("groupName")} value={name} maxLength={100} autoFocus onChange={(e) => setName(e.target.value)} />
      )}
      <LinesField label={say("groupMembers")} hint={say("groupMembersHint")} rows={8} value={members} onChange={(e) => setMembers(e.target.value)} />
    </FormDialog>
  );
}
