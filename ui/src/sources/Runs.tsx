import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Outcome, Run, Source } from "../api/types";
import { minute } from "../shared/dates";
import { Dialog } from "../shared/Dialog";
import { useLanguage } from "../shared/language";
import { Await } from "../shared/Notice";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";

const PAGE_SIZE = 50;

const COUNTS: Readonly<Record<string, TextKey>> = {
  added: "runAdded",
  updated: "runChanged",
  renewed: "runRenewed",
  removed: "runRemoved",
  failed: "runFailed",
};

const KINDS: Readonly<Record<Outcome["kind"], TextKey>> = {
  added: "outcomeAdded",
  updated: "outcomeUpdated",
  renewed: "outcomeRenewed",
  removed: "outcomeRemoved",
  failed: "outcomeFailed",
};

const happened = (run: Run) => Object.keys(COUNTS).some((name) => (run.counts[name] ?? 0) > 0);

export function RunLine({ run }: { run: Run }) {
  const { say, language } = useLanguage();
  const counts = Object.entries(COUNTS)
    .filter(([name]) => (run.counts[name] ?? 0) > 0)
    .map(([name, key]) => say(key, { n: run.counts[name] ?? 0 }));
  if (run.outcome === "stopped") counts.push(say("runStopped"));
  if (run.outcome === "failed" || run.outcome === "interrupted") counts.push(say("runBroken"));
  return (
    <>
      {minute(run.finished_at ?? run.started_at, language)}
      {" — "}
      {run.finished_at ? counts.join("・") || say("runUnchanged") : <Progress run={run} />}
    </>
  );
}

/** How far a run has come, how fast it goes, and about how long it will take yet. */
function Progress({ run }: { run: Run }) {
  const { say } = useLanguage();
  const seen = Object.entries(run.counts).reduce((sum, [name, n]) => (name === "removed" || name === "held" ? sum : sum + n), 0);
  const said = [say("sourceRunning")];
  if (seen > 0) said.push(say("runNow", { n: seen.toLocaleString(), rate: Math.round(run.per_minute).toLocaleString() }));
  if (run.left_s != null) said.push(say("runLeft", { minutes: Math.max(1, Math.round(run.left_s / 60)).toLocaleString() }));
  return <>{said.join("、")}</>;
}

export function History({ source, onClose }: { source: Source; onClose: () => void }) {
  const { say } = useLanguage();
  const [open, setOpen] = useState<Run | null>(null);
  const runs = useLoad(
    () => unwrap(api.GET("/api/v1/admin/sources/{source_id}/runs", { params: { path: { source_id: source.id } } })),
    [source.id],
  );
  return (
    <Dialog title={`${source.name} — ${say("runHistory")}`} onClose={onClose} wide>
      <Await loaded={runs}>
        {(data) =>
          data.runs.length === 0 ? (
            <p className="quiet">{say("runsNone")}</p>
          ) : (
            <ul className="rows">
              {data.runs.map((run) => (
                <li key={run.id} className="row">
                  <div className="rowMain">
                    <span>
                      <RunLine run={run} />
                    </span>
                    {run.problem && <p className="rowProblem">{run.problem}</p>}
                    {happened(run) && (
                      <button
                        type="button"
                        className="quietButton"
                        aria-expanded={open?.id === run.id}
                        onClick={() => setOpen(open?.id === run.id ? null : run)}
                      >
                        {say("runDocuments")}
                      </button>
                    )}
                    {open?.id === run.id && <Outcomes source={source} run={run} />}
                  </div>
                </li>
              ))}
            </ul>
          )
        }
      </Await>
    </Dialog>
  );
}

function Outcomes({ source, run }: { source: Source; run: Run }) {
  const { say } = useLanguage();
  const [page, setPage] = useState(1);
  const found = useLoad(
    () =>
      unwrap(
        api.GET("/api/v1/admin/sources/{source_id}/runs/{run_id}/documents", {
          params: { path: { source_id: source.id, run_id: run.id }, query: { page, size: PAGE_SIZE } },
        }),
      ),
    [run.id, page],
  );
  return (
    <Await loaded={found}>
      {({ documents, total }) =>
        total === 0 ? (
          <p className="quiet">{say("runDocumentsNone")}</p>
        ) : (
          <>
            <ul className="outcomes">
              {documents.map((one, n) => (
                <li key={n}>
                  {say("named", { name: say(KINDS[one.kind]), what: one.uri })}
                  {one.reason && <p className="rowProblem">{one.reason}</p>}
                </li>
              ))}
            </ul>
            {total > PAGE_SIZE && (
              <nav className="paging" aria-label={say("runDocuments")}>
                <button type="button" className="button small" disabled={page <= 1} onClick={() => setPage(page - 1)}>
                  {say("previous")}
                </button>
                <span role="status">
                  {say("pageOf", { total, from: (page - 1) * PAGE_SIZE + 1, to: Math.min(total, page * PAGE_SIZE) })}
                </span>
                <button type="button" className="button small" disabled={page * PAGE_SIZE >= total} onClick={() => setPage(page + 1)}>
                  {say("next")}
                </button>
              </nav>
            )}
          </>
        )
      }
    </Await>
  );
}
