import { useState } from "react";
import { api, explain, unwrap } from "../api/client";
import type { Run, Source } from "../api/types";
import { minute } from "../shared/dates";
import { Confirm, Dialog } from "../shared/Dialog";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";
import { Menu } from "../shared/Menu";
import { Await, Badge, Empty } from "../shared/Notice";
import { personalWords } from "../shared/personal";
import type { Say, TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { HANDLING, SourceForm } from "./SourceForm";
import "./sources.css";

const EVERY_MS = 5_000;

export function SourcesRoom() {
  const { say, language } = useLanguage();
  const sources = useLoad(() => unwrap(api.GET("/api/v1/admin/sources")), [], EVERY_MS);
  const [editing, setEditing] = useState<Source | "new" | null>(null);
  const [deleting, setDeleting] = useState<Source | null>(null);
  const [history, setHistory] = useState<Source | null>(null);
  const [said, setSaid] = useState("");

  async function sync(source: Source) {
    try {
      await unwrap(api.POST("/api/v1/admin/sources/{source_id}/sync", { params: { path: { source_id: source.id } } }));
      setSaid(`${source.name}: ${say("sourceSyncing")}`);
      sources.reload();
    } catch (error) {
      setSaid(explain(error, language, say));
    }
  }

  return (
    <>
      <div className="titleRow">
        <h1>{say("sourcesTitle")}</h1>
        <button type="button" className="button primary" onClick={() => setEditing("new")}>
          <Icon name="plus" />
          {say("sourceAdd")}
        </button>
      </div>
      <p className="lead">{say("sourcesLead")}</p>
      <p role="status" className="said">
        {said}
      </p>
      <Await loaded={sources}>
        {(data) =>
          data.sources.length === 0 ? (
            <Empty icon="folder">{say("sourcesNone")}</Empty>
          ) : (
            <ul className="cards">
              {data.sources.map((source) => (
                <li key={source.id} className="card">
                  <div className="cardHead">
                    <Icon name={source.kind === "uploads" ? "upload" : "folder"} />
                    <h2>{source.name}</h2>
                    <State source={source} say={say} />
                    <Menu label={`${say("menu")}: ${source.name}`} face={<Icon name="dots" />}>
                      <button type="button" onClick={() => setEditing(source)}>
                        <Icon name="pencil" />
                        {say("edit")}
                      </button>
                      {source.kind !== "uploads" && (
                        <button type="button" className="danger" onClick={() => setDeleting(source)}>
                          <Icon name="trash" />
                          {say("delete")}
                        </button>
                      )}
                    </Menu>
                  </div>
                  <p className="rowSub">
                    {[
                      source.kind === "uploads" ? say("kindUploads") : String(source.settings["root"] ?? source.kind),
                      say("sourceDocuments", { count: source.documents }),
                      ...(source.inside ? [say("sourceInside", { count: source.inside })] : []),
                      ...(problemsOf(source) ? [say("sourceProblems", { count: problemsOf(source) })] : []),
                      ...(source.pages_waiting ? [say("sourcePagesWaiting", { count: source.pages_waiting })] : []),
                    ].join(" · ")}
                  </p>
                  <Personal source={source} say={say} />
                  {source.problem && <p className="rowProblem">{source.problem}</p>}
                  <p className="rowSub">
                    {say("sourceLastRun")}：{source.last_run ? <RunLine run={source.last_run} /> : say("sourceNeverRun")}
                  </p>
                  <div className="actions left">
                    <button type="button" className="button small" onClick={() => void sync(source)}>
                      <Icon name="retry" />
                      {say("sourceSync")}
                    </button>
                    <button type="button" className="quietButton" onClick={() => setHistory(source)}>
                      {say("runHistory")}
                    </button>
                  </div>
                </li>
              ))}
            </ul>
          )
        }
      </Await>
      {editing && (
        <SourceForm source={editing === "new" ? null : editing} onClose={() => setEditing(null)} onSaved={sources.reload} />
      )}
      {history && <History source={history} onClose={() => setHistory(null)} />}
      {deleting && (
        <Confirm
          title={say("sourceDeleteTitle")}
          body={say("sourceDeleteBody", { name: deleting.name })}
          act={say("delete")}
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await unwrap(
              api.DELETE("/api/v1/admin/sources/{source_id}", { params: { path: { source_id: deleting.id } } }),
            );
            sources.reload();
          }}
        />
      )}
    </>
  );
}

function Personal({ source, say }: { source: Source; say: Say }) {
  const found = personalWords(source.personal, say, "personalDocuments");
  if (!found && source.personal_data === "show") return null;
  return (
    <p className="rowSub">
      {say("personalFound")}：{found || "—"}（{say(HANDLING[source.personal_data])}）
    </p>
  );
}

function State({ source, say }: { source: Source; say: Say }) {
  if (!source.enabled) return <Badge tone="plain">{say("sourceDisabled")}</Badge>;
  if (source.problem) {
    return (
      <Badge tone="bad" icon="warning">
        {say("statusProblem")}
      </Badge>
    );
  }
  if (source.last_run && !source.last_run.finished_at) return <Badge tone="wait">{say("sourceRunning")}</Badge>;
  return (
    <Badge tone="good" icon="check">
      {say("sourceOk")}
    </Badge>
  );
}

const COUNTS: Readonly<Record<string, TextKey>> = {
  added: "runAdded",
  changed: "runChanged",
  moved: "runMoved",
  removed: "runRemoved",
  failed: "runFailed",
};

function problemsOf(source: Source): number {
  return source.problems + source.inside_problems;
}

function RunLine({ run }: { run: Run }) {
  const { say, language } = useLanguage();
  const counts = Object.entries(COUNTS)
    .filter(([name]) => (run.counts[name] ?? 0) > 0)
    .map(([name, key]) => say(key, { n: run.counts[name] ?? 0 }));
  return (
    <>
      {minute(run.finished_at ?? run.started_at, language)}
      {" — "}
      {run.finished_at ? counts.join("・") || say("runUnchanged") : say("sourceRunning")}
    </>
  );
}

function History({ source, onClose }: { source: Source; onClose: () => void }) {
  const { say } = useLanguage();
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
