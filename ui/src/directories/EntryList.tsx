import { useEffect, useState } from "react";
import { api, unwrap } from "../api/client";
import type { Entry } from "../api/types";
import { Paging } from "../documents/Paging";
import { principalName } from "../documents/UploadsPage";
import { SelectField, TextField } from "../shared/Field";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Await, Badge, Empty } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { EntryDialog } from "./EntryDialog";

const SIZE = 50;

/** Who in the directories is whom here. `looks`: another one once a directory was looked at again. */
export function EntryList({ looks, onChanged }: { looks: string; onChanged: () => void }) {
  const say = useSay();
  const [typed, setTyped] = useState("");
  const [search, setSearch] = useState("");
  const [kind, setKind] = useState<"" | "person" | "group">("");
  const [problems, setProblems] = useState(false);
  const [page, setPage] = useState(1);
  const [open, setOpen] = useState<Entry | null>(null);

  useEffect(() => {
    if (typed.trim() === search) return;
    const timer = window.setTimeout(() => {
      setSearch(typed.trim());
      setPage(1);
    }, 250);
    return () => window.clearTimeout(timer);
  }, [typed, search]);

  const entries = useLoad(
    () =>
      unwrap(
        api.GET("/api/v1/admin/directory-entries", {
          params: { query: { search, kind, problems, limit: SIZE, offset: (page - 1) * SIZE } },
        }),
      ),
    [search, kind, problems, page, looks],
  );
  const filtered = Boolean(search || kind || problems);

  return (
    <section className="part" aria-label={say("entriesTitle")}>
      <h2>{say("entriesTitle")}</h2>
      <p className="lead">{say("entriesLead")}</p>
      <div className="filters" role="search">
        <TextField label={say("entriesSearch")} type="search" value={typed} maxLength={200} onChange={(e) => setTyped(e.target.value)} />
        <SelectField
          label={say("entriesKind")}
          value={kind}
          onChange={(e) => {
            setKind(e.target.value as "" | "person" | "group");
            setPage(1);
          }}
        >
          <option value="">{say("all")}</option>
          <option value="person">{say("entryPerson")}</option>
          <option value="group">{say("entryGroup")}</option>
        </SelectField>
        <SelectField
          label={say("entriesState")}
          value={problems ? "problems" : ""}
          onChange={(e) => {
            setProblems(e.target.value !== "");
            setPage(1);
          }}
        >
          <option value="">{say("all")}</option>
          <option value="problems">{say("entriesOnlyProblems")}</option>
        </SelectField>
      </div>
      <Await loaded={entries}>
        {(found) =>
          found.total === 0 ? (
            <Empty icon={filtered ? "search" : "person"}>{say(filtered ? "entriesNone" : "entriesNotYet")}</Empty>
          ) : (
            <>
              <div className="tableScroll">
                <table className="catalogue">
                  <thead>
                    <tr>
                      <th scope="col">{say("columnEntry")}</th>
                      <th scope="col">{say("columnKind")}</th>
                      <th scope="col">{say("columnHere")}</th>
                      <th scope="col">
                        <span className="offscreen">{say("entryOpen")}</span>
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {found.entries.map((one) => (
                      <tr key={`${one.directory} ${one.guid}`}>
                        <th scope="row">
                          <span className="rowTitle">{one.title || one.name}</span>
                          <span className="rowSub path">{[one.name, one.mail, one.directory].filter(Boolean).join(" · ")}</span>
                          {one.problem && <p className="rowProblem">{one.problem}</p>}
                        </th>
                        <td>
                          {say(one.kind === "person" ? "entryPerson" : "entryGroup")}
                          {one.disabled && <Badge tone="plain">{say("entryOff")}</Badge>}
                        </td>
                        <td data-label={say("columnHere")}>
                          {one.principal ? principalName(one.principal, say) : <span className="quiet">{say("entryNobody")}</span>}{" "}
                          {one.by_hand && <Badge tone="wait">{say("entryByHand")}</Badge>}
                        </td>
                        <td>
                          <button
                            type="button"
                            className="iconButton"
                            aria-label={`${say("entryOpen")}: ${one.title || one.name}`}
                            onClick={() => setOpen(one)}
                          >
                            <Icon name="pencil" />
                          </button>
                        </td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              <Paging label={say("entriesTitle")} page={page} size={SIZE} total={found.total} onPage={setPage} />
            </>
          )
        }
      </Await>
      {open && (
        <EntryDialog
          entry={open}
          onClose={() => setOpen(null)}
          onSaved={() => {
            entries.reload();
            onChanged();
          }}
        />
      )}
    </section>
  );
}
