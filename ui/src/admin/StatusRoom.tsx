import { useState } from "react";
import { Maintenance } from "./Maintenance";
import { api, explain, unwrap } from "../api/client";
import type { Status } from "../api/types";
import { size } from "../documents/UploadsPage";
import { useLanguage } from "../shared/language";
import { Await, Badge } from "../shared/Notice";
import { Link } from "../shared/router";
import type { Say } from "../shared/text";
import { useLoad } from "../shared/useLoad";

const EVERY_MS = 10_000;

export function StatusRoom() {
  const { say, language } = useLanguage();
  const status = useLoad(() => unwrap(api.GET("/api/v1/admin/status")), [], EVERY_MS);
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState("");

  async function reindex() {
    setBusy(true);
    setSaid("");
    try {
      const { added, removed } = await unwrap(api.POST("/api/v1/admin/reindex"));
      setSaid(say("reindexDone", { added, removed }));
      status.reload();
    } catch (error) {
      setSaid(explain(error, language, say));
    } finally {
      setBusy(false);
    }
  }

  return (
    <>
      <h1>{say("statusTitle")}</h1>
      <p className="lead">{say("statusLead")}</p>
      <Await loaded={status}>
        {(now) => (
          <>
            <p className="overall">
              <Overall status={now} say={say} />
            </p>
            <Open />
            {now.withheld_sources.length > 0 && (
              <p className="rowProblem" role="alert">
                {say("statusWithheld", { names: now.withheld_sources.join("、") })}
              </p>
            )}
            <ul className="counts">
              <Count label={say("countDocuments")} value={now.documents} />
              <Count label={say("countReady")} value={now.ready_documents} />
              <Count label={say("countInside")} value={now.inside} />
              <Count label={say("countProblems")} value={now.problems + now.inside_problems} bad={now.problems + now.inside_problems > 0} />
              <Count label={say("countChunks")} value={now.chunks} />
              {now.pages.waiting > 0 && <Count label={say("countPagesWaiting")} value={now.pages.waiting} />}
            </ul>
            <h2>{say("detail")}</h2>
            <dl className="facts">
              <Fact name={say("version")} value={now.version} />
              <Fact name={say("generator")} value={now.generator} />
              <Fact name={say("embedder")} value={now.embedder} />
              {now.embedding_anew && (
                <Fact
                  name={say("embeddingAnew")}
                  value={`${now.embedding_anew.target} ${now.embedding_anew.done.toLocaleString()} / ${now.embedding_anew.total.toLocaleString()}`}
                />
              )}
              <Fact name={say("pages")} value={pagesSaid(now, say)} />
              <Fact name={say("freeSpace")} value={size(now.free_bytes)} />
              <Fact name={say("blocked")} value={String(now.blocked_connections)} />
            </dl>
            <h2>{say("indexes")}</h2>
            <div className="tableScroll">
              <table>
                <thead>
                  <tr>
                    <th scope="col">{say("indexName")}</th>
                    <th scope="col" className="number">
                      {say("indexChunks")}
                    </th>
                    <th scope="col" className="number">
                      {say("indexBehind")}
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {now.indexes.map((index) => (
                    <tr key={index.name}>
                      <th scope="row">{indexName(index.name, say)}</th>
                      <td className="number">{index.chunks.toLocaleString()}</td>
                      <td className="number">{index.behind.toLocaleString()}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <div className="actions left">
              <button type="button" className="button" disabled={busy} onClick={() => void reindex()}>
                {say(busy ? "reindexing" : "reindex")}
              </button>
              <span role="status">{said}</span>
            </div>
          </>
        )}
      </Await>
      <Maintenance />
    </>
  );
}

/** What is wrong now, in a line; the page of alerts says more. */
function Open() {
  const { say, language } = useLanguage();
  const alerts = useLoad(() => unwrap(api.GET("/api/v1/admin/alerts")), [], EVERY_MS);
  const open = alerts.data?.open ?? [];
  if (open.length === 0) return null;
  return (
    <p className="rowProblem">
      <Link href="/admin/alerts">{say("statusOpen", { count: open.length })}</Link>{" "}
      {open.map((one) => one.title).join(language === "ja" ? "、" : ", ")}
    </p>
  );
}

function Overall({ status, say }: { status: Status; say: Say }) {
  if (!status.ready) return <Badge tone="wait">{say("statusLoading")}</Badge>;
  if (!status.model_answers) {
    return (
      <Badge tone="bad" icon="warning">
        {say("statusNoModel")}
      </Badge>
    );
  }
  return (
    <Badge tone="good" icon="check">
      {say("statusReady2")}
    </Badge>
  );
}

function pagesSaid({ pages }: Status, say: Say): string {
  if (!pages.on) return say("pagesOff");
  return say("pagesNow", { done: pages.done, failed: pages.failed, rate: pages.per_minute });
}

function indexName(name: string, say: Say): string {
  if (/^dense/i.test(name)) return say("indexDense");
  return /^keyword/i.test(name) ? say("indexKeyword") : name;
}

function Count({ label, value, bad }: { label: string; value: number; bad?: boolean }) {
  return (
    <li className={bad ? "count bad" : "count"}>
      <span className="countValue">{value.toLocaleString()}</span>
      <span className="countLabel">{label}</span>
    </li>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
