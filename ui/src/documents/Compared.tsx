import { Fragment, useState } from "react";
import { api, unwrap } from "../api/client";
import type { PageTexts } from "../api/types";
import { useSay } from "../shared/language";
import { Await } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { differences, type Stretch } from "./differences";

interface Props {
  id: string;
  page: number;
}

/** What the file says of a page beside what was read from its picture, for whoever wants to check. */
export function Compared({ id, page }: Props) {
  const say = useSay();
  const [open, setOpen] = useState(false);
  return (
    <div className="compared">
      <button type="button" className="button small" aria-expanded={open} onClick={() => setOpen(!open)}>
        {say("docCompare")}
      </button>
      {open && <Both id={id} page={page} />}
    </div>
  );
}

function Both({ id, page }: Props) {
  const say = useSay();
  const texts = useLoad(
    () => unwrap(api.GET("/api/v1/documents/{document_id}/pages/{number}/texts", { params: { path: { document_id: id, number: page } } })),
    [id, page],
  );
  return <Await loaded={texts}>{(found) => <Side found={found} why={say(found.state.state === "garbled" ? "docCompareWhyGarbled" : "docCompareWhyScanned")} />}</Await>;
}

function Side({ found, why }: { found: PageTexts; why: string }) {
  const say = useSay();
  const both = found.own !== "" && found.read !== "";
  const [own, read] = both ? differences(found.own, found.read) : [[{ text: found.own, other: false }], [{ text: found.read, other: false }]];
  return (
    <>
      <p className="hint">
        {why} {both && say("docCompareLead")}
      </p>
      <div className="comparedSides">
        <section aria-label={say("docCompareOwn")}>
          <h3>{say("docCompareOwn")}</h3>
          <Text stretches={own} none={say("docCompareOwnNone")} />
        </section>
        <section aria-label={say("docCompareRead")}>
          <h3>{say("docCompareRead")}</h3>
          <Text stretches={read} none={say("docCompareReadNone")} />
        </section>
      </div>
    </>
  );
}

function Text({ stretches, none }: { stretches: readonly Stretch[]; none: string }) {
  if (stretches.every((one) => one.text === "")) return <p className="hint">{none}</p>;
  return (
    <div className="documentText">
      {stretches.map((one, i) =>
        one.other ? (
          <mark key={i} className="differs">
            {one.text}
          </mark>
        ) : (
          <Fragment key={i}>{one.text}</Fragment>
        ),
      )}
    </div>
  );
}
