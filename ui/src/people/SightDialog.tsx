import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Account } from "../api/types";
import { principalName } from "../documents/UploadsPage";
import { Dialog } from "../shared/Dialog";
import { SelectField } from "../shared/Field";
import { useSay } from "../shared/language";
import { Await, Badge } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";

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
                    <li key={one.principal}>{one.way.slice(1).map((p) => principalName(p, say)).join(" → ")}</li>
                  ))}
                </ul>
              )}
            </>
          );
        }}
      </Await>
    </Dialog>
  );
}
