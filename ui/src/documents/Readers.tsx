import { useState } from "react";
import { api, unwrap } from "../api/client";
import { useLanguage } from "../shared/language";
import { Await, Badge } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { wayWords } from "../people/ways";

/** For administrators: the people who may read a document, and by which group. Asked for, not shown at once. */
export function Readers({ id }: { id: string }) {
  const { say } = useLanguage();
  const [open, setOpen] = useState(false);
  if (open) return <ReaderList id={id} />;
  return (
    <button type="button" className="button" onClick={() => setOpen(true)}>
      {say("readersShow")}
    </button>
  );
}

function ReaderList({ id }: { id: string }) {
  const { say } = useLanguage();
  const readers = useLoad(() => unwrap(api.GET("/api/v1/admin/readers", { params: { query: { document: id } } })), [id]);
  return (
    <>
      <h3>{say("readersTitle")}</h3>
      <Await loaded={readers}>
        {(known) => {
          const reading = known.verdicts.filter((one) => one.reads);
          if (known.withheld) return <Badge tone="bad">{say("sightWithheld")}</Badge>;
          if (reading.length === 0) return <p className="hint">{say("readersNone")}</p>;
          return (
            <ul className="plainList">
              {reading.map((one) => {
                const ways = one.rulings.map((r) => wayWords(r.allowed_by[0] ?? [], known.names, say));
                const way = [...new Set(ways.filter(Boolean))].join("、");
                return (
                  <li key={one.user}>
                    <span>{one.display_name}</span>
                    <span className="rowSub">{way ? say("readersWay", { way }) : one.user}</span>
                  </li>
                );
              })}
            </ul>
          );
        }}
      </Await>
    </>
  );
}
