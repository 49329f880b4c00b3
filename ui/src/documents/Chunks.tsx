import { useState } from "react";
import { api, unwrap } from "../api/client";
import { useSay } from "../shared/language";
import { Await, Empty } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";
import { Paging } from "./Paging";
import type { Words } from "./paths";

const PAGE_SIZE = 50;

interface Props {
  id: string;
  onOpen: (words: Words) => void;
}

/** What the index holds of a document, piece by piece. */
export function Chunks({ id, onOpen }: Props) {
  const say = useSay();
  const [page, setPage] = useState(1);
  const chunks = useLoad(
    () => unwrap(api.GET("/api/v1/documents/{document_id}/chunks", { params: { path: { document_id: id }, query: { page, page_size: PAGE_SIZE } } })),
    [id, page],
  );
  return (
    <Await loaded={chunks}>
      {(found) =>
        found.total === 0 ? (
          <Empty>{say("docChunksNone")}</Empty>
        ) : (
          <>
            <p className="hint">{say("docChunksLead")}</p>
            <ol className="chunks">
              {found.chunks.map((one) => (
                <li key={one.id}>
                  <button type="button" onClick={() => onOpen(one)}>
                    <span className="rowSub">{one.label || one.heading}</span>
                    <span className="chunkText">{one.text}</span>
                  </button>
                </li>
              ))}
            </ol>
            <Paging label={say("docChunks")} page={found.page} size={found.page_size} total={found.total} onPage={setPage} />
          </>
        )
      }
    </Await>
  );
}
