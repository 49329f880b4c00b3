import { useState } from "react";
import { api, explain, unwrap } from "../api/client";
import type { Source } from "../api/types";
import { minute } from "../shared/dates";
import { Confirm } from "../shared/Dialog";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";
import { Menu } from "../shared/Menu";
import { Await, Badge, Empty } from "../shared/Notice";
import { personalWords } from "../shared/personal";
import type { Say, TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { History, RunLine } from "./Runs";
import { HANDLING, SourceForm } from "./SourceForm";
import "./sources.css";

const EVERY_MS = 5_000;

export function SourcesRoom() {
  const { say, language } = useLanguage();
  const sources = useLoad(() => unwrap(api.GET("/api/v1/admin/sources")), [], EVERY_MS);
  const [editing, setEditing] = useState<Source | "new" | null>(null);
  const [deleting, setDeleting] = useState<Source | null>(null);
  const [pausing, setPausing] = useState<Source | null>(null);
  const [comparing, setComparing] = useState<Source | null>(null);
  const [accepting, setAccepting] = useState<Source | null>(null);
  const [history, setHistory] = useState<Source | null>(null);
  const [said, setSaid] = useState("");

  async function act(source: Source, how: "sync" | "resync" | "accept" | "pause" | "resume", done: TextKey) {
    await unwrap(api.POST(`/api/v1/admin/sources/{source_id}/${how}`, { params: { path: { source_id: source.id } } }));
    setSaid(`${source.name}: ${say(done)}`);
    sources.reload();
  }

  const at = (source: Source, how: "sync" | "resume", done: TextKey) =>
    act(source, how, done).catch((error: unknown) => setSaid(explain(error, language, say)));

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
                      <button type="button" onClick={() => setComparing(source)}>
                        <Icon name="retry" />
                        {say("sourceResync")}
                      </button>
                      {source.kind !== "uploads" && source.enabled && (
                        <button type="button" onClick={() => setPausing(source)}>
                          <Icon name="stop" />
                          {say("sourcePause")}
                        </button>
                      )}
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
                      source.kind === "uploads" ? say("kindUploads") : placeOf(source),
                      say("sourceDocuments", { count: source.documents }),
                      ...(source.inside ? [say("sourceInside", { count: source.inside })] : []),
                      ...(problemsOf(source) ? [say("sourceProblems", { count: problemsOf(source) })] : []),
                      ...(source.pages_waiting ? [say("sourcePagesWaiting", { count: source.pages_waiting })] : []),
                    ].join(" · ")}
                  </p>
                  <Personal source={source} say={say} />
                  {source.problem && <p className="rowProblem">{source.problem}</p>}
                  <p className="rowSub">
                    {say("named", { name: say("sourceLastRun"), what: "" })}
                    {source.last_run ? <RunLine run={source.last_run} /> : say("sourceNeverRun")}
                  </p>
                  <p className="rowSub">
                    {[
                      source.fresh_at ? say("sourceFresh", { at: minute(source.fresh_at, language) }) : say("sourceNeverFresh"),
                      ...(source.enabled && source.quiet_until ? [say("sourceQuiet", { at: minute(source.quiet_until, language) })] : []),
                    ].join(" · ")}
                  </p>
                  <div className="actions left">
                    {source.enabled ? (
                      <button type="button" className="button small" onClick={() => void at(source, "sync", "sourceSyncing")}>
                        <Icon name="retry" />
                        {say("sourceSync")}
                      </button>
                    ) : (
                      <button type="button" className="button small" onClick={() => void at(source, "resume", "sourceResumed")}>
                        <Icon name="retry" />
                        {say("sourceResume")}
                      </button>
                    )}
                    {source.held && (
                      <button type="button" className="button small danger" onClick={() => setAccepting(source)}>
                        {say("sourceAccept")}
                      </button>
                    )}
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
      {pausing && (
        <Confirm
          title={say("sourcePauseTitle")}
          body={say("sourcePauseBody", { name: pausing.name })}
          act={say("sourcePause")}
          onClose={() => setPausing(null)}
          onConfirm={() => act(pausing, "pause", "sourcePaused")}
        />
      )}
      {comparing && (
        <Confirm
          title={say("sourceResyncTitle")}
          body={say("sourceResyncBody", { name: comparing.name })}
          act={say("sourceResync")}
          onClose={() => setComparing(null)}
          onConfirm={() => act(comparing, "resync", "sourceSyncing")}
        />
      )}
      {accepting?.held && (
        <Confirm
          title={say("sourceAcceptTitle")}
          body={say("sourceAcceptBody", { name: accepting.name, missing: accepting.held.missing, of: accepting.held.of })}
          act={say("sourceAccept")}
          onClose={() => setAccepting(null)}
          onConfirm={() => act(accepting, "accept", "sourceSyncing")}
        />
      )}
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
      {say("named", { name: say("personalFound"), what: found || "—" })}
      {say("bracketed", { what: say(HANDLING[source.personal_data]) })}
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
  if (!source.last_run) return <Badge tone="wait">{say("sourceWaiting")}</Badge>;
  if (!source.last_run.finished_at) return <Badge tone="wait">{say("sourceRunning")}</Badge>;
  return (
    <Badge tone="good" icon="check">
      {say("sourceOk")}
    </Badge>
  );
}

function problemsOf(source: Source): number {
  return source.problems + source.inside_problems;
}

/** Where it is, as its settings say; else what kind it is. */
function placeOf(source: Source): string {
  const said = ["root", "url", "sharepoint", "endpoint", "server", "host"].map((name) => source.settings[name]);
  return String(said.find((one) => typeof one === "string" && one !== "") ?? source.kind);
}
