import { useState } from "react";
import { api, unwrap } from "../api/client";
import { useSay } from "../shared/language";
import { Await, Empty } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { Paging } from "./Paging";
import type { Words } from "./paths";

const PAGE_SIZE = 200;
const DEEPEST = 6;

interface Props {
  id: string;
  onOpen: (words: Words) => void;
}

/** The headings of a document; each opens its place. */
export function Outline({ id, onOpen }: Props) {
  const say = useSay();
  const [page, setPage] = useState(1);
  const sections = useLoad(
    () => unwrap(api.GET("/api/v1/documents/{document_id}/sections", { params: { path: { document_id: id }, query: { page, page_size: PAGE_SIZE } } })),
    [id, page],
  );
  return (
    <Await loaded={sections}>
      {(found) =>
        found.total === 0 ? (
          <Empty>{say("docSectionsNone")}</Empty>
        ) : (
          <>
            <ol className="outline">
              {found.sections.map((one, i) => (
                <li key={i} className={`depth${Math.min(Math.max(one.level, 1), DEEPEST)}`}>
                  <button type="button" onClick={() => onOpen({ start: one.start, end: one.start })}>
                    <span>{one.label}</span>
                    {one.page !== null && <span className="rowSub">{say("docPageRef", { page: one.page })}</span>}
                  </button>
                </li>
              ))}
            </ol>
            <Paging label={say("docSections")} page={found.page} size={found.page_size} total={found.total} onPage={setPage} />
          </>
        )
      }
    </Await>
  );
}
