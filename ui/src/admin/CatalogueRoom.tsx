import { useEffect, useState } from "react";
import { api, unwrap } from "../api/client";
import type { Listed } from "../api/types";
import { documentPath } from "../documents/paths";
import { Inside, StatusBadge } from "../documents/UploadsPage";
import { day, minute } from "../shared/dates";
import { SelectField, TextField } from "../shared/Field";
import { useLanguage } from "../shared/language";
import { Await, Badge, Empty, Stamp } from "../shared/Notice";
import { personalWords } from "../shared/personal";
import { Link } from "../shared/router";
import { useLoad } from "../shared/useLoad";

const PAGE_SIZE = 50;

export function CatalogueRoom() {
  const { say } = useLanguage();
  const [typed, setTyped] = useState("");
  const [q, setQ] = useState("");
  const [status, setStatus] = useState<"" | "ready" | "problem">("");
  const [source, setSource] = useState("");
  const [page, setPage] = useState(1);

  useEffect(() => {
    if (typed.trim() === q) return;
    const timer = window.setTimeout(() => {
      setQ(typed.trim());
      setPage(1);
    }, 250);
    return () => window.clearTimeout(timer);
  }, [typed, q]);

  const sources = useLoad(() => unwrap(api.GET("/api/v1/admin/sources")), []);
  const documents = useLoad(
    () =>
      unwrap(
        api.GET("/api/v1/admin/documents", {
          params: {
            query: { page, page_size: PAGE_SIZE, q, ...(status ? { status } : {}), ...(source ? { source: Number(source) } : {}) },
          },
        }),
      ),
    [q, status, source, page],
  );

  return (
    <>
      <h1>{say("catalogueTitle")}</h1>
      <p className="lead">{say("catalogueLead")}</p>
      <div className="filters" role="search">
        <TextField label={say("catalogueSearch")} type="search" value={typed} onChange={(e) => setTyped(e.target.value)} />
        <SelectField
          label={say("catalogueStatus")}
          value={status}
          onChange={(e) => {
            setStatus(e.target.value as "" | "ready" | "problem");
            setPage(1);
          }}
        >
          <option value="">{say("all")}</option>
          <option value="ready">{say("statusReady")}</option>
          <option value="problem">{say("statusProblem")}</option>
        </SelectField>
        <SelectField
          label={say("catalogueSource")}
          value={source}
          onChange={(e) => {
            setSource(e.target.value);
            setPage(1);
          }}
        >
          <option value="">{say("all")}</option>
          {sources.data?.sources.map((s) => (
            <option key={s.id} value={s.id}>
              {s.name}
            </option>
          ))}
        </SelectField>
      </div>
      <Await loaded={documents}>
        {(found) =>
          found.total === 0 ? (
            <Empty icon="search">{say("catalogueNone")}</Empty>
          ) : (
            <>
              <div className="tableScroll">
                <table className="catalogue">
                  <thead>
                    <tr>
                      <th scope="col">{say("columnTitle")}</th>
                      <th scope="col">{say("columnStatus")}</th>
                      <th scope="col">{say("columnSource")}</th>
                      <th scope="col">{say("columnModified")}</th>
                    </tr>
                  </thead>
                  <tbody>
                    {found.documents.map((d) => (
                      <Row key={d.id} listed={d} />
                    ))}
                  </tbody>
                </table>
              </div>
              <nav className="paging" aria-label={say("catalogueTitle")}>
                <button type="button" className="button small" disabled={found.page <= 1} onClick={() => setPage(page - 1)}>
                  {say("previous")}
                </button>
                <span role="status">
                  {say("pageOf", {
                    total: found.total,
                    from: (found.page - 1) * found.page_size + 1,
                    to: Math.min(found.total, found.page * found.page_size),
                  })}
                </span>
                <button
                  type="button"
                  className="button small"
                  disabled={found.page * found.page_size >= found.total}
                  onClick={() => setPage(page + 1)}
                >
                  {say("next")}
                </button>
              </nav>
            </>
          )
        }
      </Await>
    </>
  );
}

function Row({ listed }: { listed: Listed }) {
  const { say, language } = useLanguage();
  return (
    <tr>
      <th scope="row">
        <Link href={documentPath(listed.id)} className="rowTitle">
          {listed.title}
        </Link>{" "}
        <Stamp confidentiality={listed.confidentiality} />
        <span className="rowSub path">{listed.uri}</span>
        <Inside children={listed.children} problems={listed.children_problems} />
        {listed.problem && <p className="rowProblem">{listed.problem}</p>}
        {listed.problem && listed.searchable && <p className="rowSub">{say("oldText")}</p>}
        {listed.next_attempt_at && (
          <p className="rowSub">{say("nextAttempt", { when: minute(listed.next_attempt_at, language) })}</p>
        )}
        {Object.keys(listed.personal).length > 0 && (
          <p className="rowSub">
            {say("named", { name: say("personalFound"), what: personalWords(listed.personal, say, "personalCount") })}
          </p>
        )}
        {listed.notes.map((note, i) => (
          <p key={i} className="rowNote">
            {note}
          </p>
        ))}
      </th>
      <td>
        <StatusBadge status={listed.status} />
        {listed.status === "ready" && !listed.searchable && !listed.children && <Badge tone="wait">{say("notSearchable")}</Badge>}
      </td>
      <td data-label={say("columnSource")}>{listed.source}</td>
      <td data-label={say("columnModified")}>{day(listed.modified_at, language)}</td>
    </tr>
  );
}
