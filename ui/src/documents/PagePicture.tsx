import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { errorFrom, tellSignedOut, unreachable } from "../api/client";
import type { PlaceBox } from "../api/types";
import { useSay } from "../shared/language";
import { Problem } from "../shared/Notice";

/** Who turns pages quickly asks for the one where he stops. */
const PAUSE_MS = 120;

/** Of a page's width and height; as the API tells places. */
const FULL = 10_000;

interface Props {
  id: string;
  page: number;
  boxes: readonly PlaceBox[]; // of the words one came for
}

/** A page as people see it. Drawn on a canvas, since an <img> could not say why it is missing. */
export function PagePicture({ id, page, boxes }: Props) {
  const say = useSay();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [shown, setShown] = useState(false);
  const [large, setLarge] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  const first = useRef<HTMLSpanElement>(null);
  const marked = boxes.filter((box) => box.page === page);
  useLayoutEffect(() => {
    if (shown) first.current?.scrollIntoView({ block: "center", inline: "nearest" });
  }, [shown, boxes]);

  useEffect(() => {
    const stop = new AbortController();
    setError(null);
    setShown(false);
    const timer = window.setTimeout(() => {
      fetchPicture(id, page, stop.signal).then(
        (picture) => {
          const target = canvas.current;
          if (!target || stop.signal.aborted) return picture.close();
          target.width = picture.width;
          target.height = picture.height;
          target.getContext("2d")?.drawImage(picture, 0, 0);
          picture.close();
          setShown(true);
        },
        (problem: unknown) => !stop.signal.aborted && setError(problem),
      );
    }, PAUSE_MS);
    return () => {
      window.clearTimeout(timer);
      stop.abort();
    };
  }, [id, page, attempt]);

  return (
    <div className="picture" role="group" aria-label={say("docPicture")}>
      {error !== null && <Problem error={error} onRetry={() => setAttempt(attempt + 1)} />}
      {error === null && !shown && (
        <p className="pictureComing" role="status">
          {say("docPictureComing")}
        </p>
      )}
      {shown && (
        <button type="button" className="button small pictureZoom" aria-pressed={large} onClick={() => setLarge(!large)}>
          {say(large ? "docZoomOut" : "docZoomIn")}
        </button>
      )}
      <div className={large ? "pictureFrame large" : "pictureFrame"} hidden={!shown} tabIndex={0}>
        <div className="pictureSheet">
          <canvas ref={canvas} role="img" aria-label={say("docPictureOf", { page })} />
          {marked.map((box, i) => (
            <span key={i} ref={i === 0 ? first : undefined} className="pictureMark" style={place(box)} />
          ))}
        </div>
      </div>
    </div>
  );
}

function place(box: PlaceBox) {
  const share = (n: number) => `${(100 * n) / FULL}%`;
  return { left: share(box.left), top: share(box.top), width: share(box.right - box.left), height: share(box.bottom - box.top) };
}

async function fetchPicture(id: string, page: number, signal: AbortSignal): Promise<ImageBitmap> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/documents/${encodeURIComponent(id)}/pages/${page}/image`, { credentials: "same-origin", signal });
  } catch (problem) {
    if (signal.aborted) throw problem;
    throw unreachable();
  }
  if (response.status === 401) tellSignedOut();
  if (!response.ok) throw errorFrom(await response.json().catch(() => null), response.status);
  return createImageBitmap(await response.blob());
}
