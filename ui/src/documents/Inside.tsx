import { useState } from "react";
import { api, unwrap } from "../api/client";
import { useSay } from "../shared/language";
import { Await } from "../shared/Notice";
import { Link } from "../shared/router";
import { useLoad } from "../shared/useLoad";
import { Paging } from "./Paging";
import { StatusBadge } from "./UploadsPage";
import { documentPath } from "./paths";

const PAGE_SIZE = 50;

/** The files inside a document, each with its own page. */
export function InsideList({ id }: { id: string }) {
  const say = useSay();
  const [page, setPage] = useState(1);
  const inside = useLoad(
    () => unwrap(api.GET("/api/v1/documents/{document_id}/children", { params: { path: { document_id: id }, query: { page, page_size: PAGE_SIZE } } })),
    [id, page],
  );
  return (
    <section>
      <h2>{say("docInside")}</h2>
      <Await loaded={inside}>
        {(found) => (
          <>
            <ul className="plainList">
              {found.children.map((one) => (
                <li key={one.id}>
                  <Link href={documentPath(one.id)}>{one.within}</Link>
                  {one.status === "problem" && <StatusBadge status={one.status} />}
                  {one.problem && <span className="rowSub">{one.problem}</span>}
                </li>
              ))}
            </ul>
            <Paging label={say("docInside")} page={found.page} size={found.page_size} total={found.total} onPage={setPage} />
          </>
        )}
      </Await>
    </section>
  );
}
