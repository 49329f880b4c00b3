import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Considered, Weighed } from "../api/types";
import { documentPath } from "../documents/paths";
import { TextField } from "../shared/Field";
import { useSay } from "../shared/language";
import { Badge, Empty, Problem } from "../shared/Notice";
import { Link } from "../shared/router";
import type { TextKey } from "../shared/text";

const REASONS: Readonly<Record<NonNullable<Considered["dropped"]>, TextKey>> = {
  superseded: "droppedSuperseded",
  ahead: "droppedAhead",
  copy: "droppedCopy",
  crowded: "droppedCrowded",
  beyond: "droppedBeyond",
};

const WANTED = { filter: { sources: [], types: [] }, k: 5, rerank: false };

/** What a search finds, how it weighs it and what it leaves out: with the administrator's own rights. */
export function RetrievalRoom() {
  const say = useSay();
  const [question, setQuestion] = useState("");
  const [found, setFound] = useState<Weighed | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);

  async function search() {
    setBusy(true);
    setError(null);
    try {
      setFound(await unwrap(api.POST("/api/v1/search/candidates", { body: { ...WANTED, question: question.trim() } })));
    } catch (why) {
      setFound(null);
      setError(why);
    } finally {
      setBusy(false);
    }
  }

  return (
    <>
      <h1>{say("retrievalTitle")}</h1>
      <p className="lead">{say("retrievalLead")}</p>
      <form
        className="retrieval"
        onSubmit={(event) => {
          event.preventDefault();
          if (question.trim() && !busy) void search();
        }}
      >
        <TextField label={say("question")} value={question} maxLength={4000} onChange={(e) => setQuestion(e.target.value)} />
        <button type="submit" className="button primary" disabled={busy || !question.trim()}>
          {say(busy ? "stageSearching" : "retrievalDo")}
        </button>
      </form>
      {error ? <Problem error={error} /> : null}
      <div aria-live="polite">
        {found?.partial && (
          <p>
            <Badge tone="bad" icon="warning">
              {say("retrievalPartial")}
            </Badge>
          </p>
        )}
        {found && <Weighing found={found} />}
      </div>
    </>
  );
}

function Weighing({ found }: { found: Weighed }) {
  const say = useSay();
  if (!found.considered.length) return <Empty icon="search">{say("retrievalNone")}</Empty>;
  const sure = found.relevance >= found.threshold;
  return (
    <>
      <p>{say("searchedFor", { question: found.question })}</p>
      <p className="overall">
        <Badge tone={sure ? "good" : "bad"} icon={sure ? "check" : "warning"}>
          {say(sure ? "retrievalSure" : "retrievalUnsure", {
            relevance: found.relevance.toFixed(3),
            threshold: found.threshold.toFixed(3),
          })}
        </Badge>
      </p>
      <div className="tableScroll">
        <table>
          <thead>
            <tr>
              <th scope="col">{say("retrievalPlace")}</th>
              <th scope="col" className="number">
                {say("retrievalFused")}
              </th>
              <th scope="col" className="number">
                {say("retrievalDense")}
              </th>
              <th scope="col" className="number">
                {say("retrievalKeyword")}
              </th>
              <th scope="col">{say("retrievalUse")}</th>
            </tr>
          </thead>
          <tbody>
            {found.considered.map(({ passage, fused, dense, keyword, dropped }) => (
              <tr key={passage.n} className={dropped ? "faded" : undefined}>
                <th scope="row">
                  <Link href={documentPath(passage.document_id)} className="rowTitle">
                    {passage.within || passage.title}
                  </Link>
                  <span className="rowSub">{[passage.source, passage.label].filter(Boolean).join(" · ")}</span>
                </th>
                <td className="number">{fused.toFixed(2)}</td>
                <td className="number">{dense.toFixed(3)}</td>
                <td className="number">{keyword.toFixed(2)}</td>
                <td>{dropped ? say(REASONS[dropped]) : <Badge tone="good">{say("retrievalUsed")}</Badge>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p className="hint">{say("retrievalHint")}</p>
    </>
  );
}
