import { useCallback, useEffect, useId, useRef, useState, type DragEvent } from "react";
import { ApiError, api, errorFrom, explain, headersFor, tellSignedOut, unreachable, unwrap } from "../api/client";
import type { Upload } from "../api/types";
import { minute } from "../shared/dates";
import { Confirm } from "../shared/Dialog";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";
import { Await, Badge, Empty } from "../shared/Notice";
import { Link } from "../shared/router";
import type { Say } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { documentPath } from "./paths";
import "./documents.css";

interface Sending {
  key: number;
  name: string;
  percent: number;
  error: unknown;
}

export function UploadsPage() {
  const { say, language } = useLanguage();
  const uploads = useLoad(() => unwrap(api.GET("/api/v1/uploads")), []);
  const groups = useLoad(() => unwrap(api.GET("/api/v1/me/groups")), []);
  const [sending, setSending] = useState<Sending[]>([]);
  const [share, setShare] = useState<"me" | "groups">("me");
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [dragging, setDragging] = useState(false);
  const [deleting, setDeleting] = useState<Upload | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const serial = useRef(0);
  const id = useId();

  const list = uploads.data?.uploads ?? [];
  const pending = list.some((u) => u.status === "pending");
  const { reload } = uploads;
  useEffect(() => {
    if (!pending) return;
    const timer = window.setInterval(reload, 1500);
    return () => window.clearInterval(timer);
  }, [pending, reload]);

  const add = useCallback(
    async (files: Iterable<File>) => {
      const allow = share === "groups" ? [...chosen].join(",") : "";
      for (const file of files) {
        const key = ++serial.current;
        const change = (part: Partial<Sending>) =>
          setSending((all) => all.map((one) => (one.key === key ? { ...one, ...part } : one)));
        setSending((all) => [...all, { key, name: file.name, percent: 0, error: null }]);
        try {
          await put(file, allow, (percent) => change({ percent }));
          setSending((all) => all.filter((one) => one.key !== key));
          reload();
        } catch (error) {
          if (error instanceof ApiError && error.signedOut) return tellSignedOut();
          change({ error });
        }
      }
    },
    [share, chosen, reload],
  );

  function drag(event: DragEvent, over: boolean) {
    event.preventDefault();
    setDragging(over);
  }

  const principals = groups.data?.principals ?? [];

  return (
    <div className="page narrow">
      <h1>{say("uploadsTitle")}</h1>
      <p className="lead">{say("uploadsLead")}</p>

      <fieldset className="shareWith">
        <legend>{say("uploadShare")}</legend>
        <label>
          <input type="radio" name={`${id}-share`} checked={share === "me"} onChange={() => setShare("me")} />
          {say("uploadShareMe")}
        </label>
        <label>
          <input
            type="radio"
            name={`${id}-share`}
            checked={share === "groups"}
            disabled={!principals.length}
            onChange={() => setShare("groups")}
          />
          {say("uploadShareGroups")}
        </label>
        {share === "groups" && (
          <div className="groupChoice">
            {principals.map((p) => (
              <label key={p}>
                <input
                  type="checkbox"
                  checked={chosen.has(p)}
                  onChange={(event) => {
                    const next = new Set(chosen);
                    if (event.target.checked) next.add(p);
                    else next.delete(p);
                    setChosen(next);
                  }}
                />
                {principalName(p, say)}
              </label>
            ))}
          </div>
        )}
      </fieldset>

      <div
        className={dragging ? "drop over" : "drop"}
        onDragEnter={(event) => drag(event, true)}
        onDragOver={(event) => drag(event, true)}
        onDragLeave={(event) => drag(event, false)}
        onDrop={(event) => {
          drag(event, false);
          void add([...event.dataTransfer.files]);
        }}
      >
        <Icon name="upload" />
        <p className="dropWords">{say(dragging ? "uploadDropActive" : "uploadDrop")}</p>
        <button type="button" className="button primary" onClick={() => input.current?.click()}>
          {say("uploadChoose")}
        </button>
        <input
          ref={input}
          type="file"
          multiple
          className="offscreen"
          tabIndex={-1}
          aria-label={say("uploadChoose")}
          onChange={(event) => {
            void add([...(event.target.files ?? [])]);
            event.target.value = "";
          }}
        />
        <p className="hint">{say("uploadFormats")}</p>
      </div>

      <h2>{say("uploadsMine")}</h2>
      {sending.length > 0 && (
        <ul className="rows" aria-live="polite">
          {sending.map((one) => (
            <li key={one.key} className="row">
              <div className="rowMain">
                <span className="rowTitle">{one.name}</span>
                {one.error ? <p className="rowProblem">{explain(one.error, language, say)}</p> : <progress max={100} value={one.percent} aria-label={one.name} />}
              </div>
              {one.error ? (
                <>
                  <Badge tone="bad" icon="warning">
                    {say("uploadFailed")}
                  </Badge>
                  <button
                    type="button"
                    className="iconButton"
                    aria-label={say("close")}
                    onClick={() => setSending((all) => all.filter((other) => other.key !== one.key))}
                  >
                    <Icon name="close" />
                  </button>
                </>
              ) : (
                <Badge tone="wait">{say("uploading", { percent: one.percent })}</Badge>
              )}
            </li>
          ))}
        </ul>
      )}
      <Await loaded={uploads}>
        {(data) =>
          data.uploads.length === 0 && sending.length === 0 ? (
            <Empty icon="document">{say("uploadsNone")}</Empty>
          ) : (
            <ul className="rows">
              {data.uploads.map((upload) => (
                <li key={upload.id} className="row">
                  <div className="rowMain">
                    {upload.document_id ? (
                      <Link href={documentPath(upload.document_id)} className="rowTitle">
                        {upload.name}
                      </Link>
                    ) : (
                      <span className="rowTitle">{upload.name}</span>
                    )}
                    <span className="rowSub">
                      {[minute(upload.uploaded_at, language), size(upload.size_bytes), sharedWith(upload.allow, say)].join(" · ")}
                    </span>
                    <Inside children={upload.children} problems={upload.children_problems} />
                    {upload.problem && <p className="rowProblem">{upload.problem}</p>}
                  </div>
                  <StatusBadge status={upload.status} />
                  <button
                    type="button"
                    className="iconButton"
                    aria-label={`${say("delete")}: ${upload.name}`}
                    onClick={() => setDeleting(upload)}
                  >
                    <Icon name="trash" />
                  </button>
                </li>
              ))}
            </ul>
          )
        }
      </Await>
      {deleting && (
        <Confirm
          title={say("uploadDeleteTitle")}
          body={say("uploadDeleteBody", { name: deleting.name })}
          act={say("delete")}
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await unwrap(api.DELETE("/api/v1/uploads/{upload_id}", { params: { path: { upload_id: deleting.id } } }));
            reload();
          }}
        />
      )}
    </div>
  );
}

export function StatusBadge({ status }: { status: Upload["status"] }) {
  const { say } = useLanguage();
  if (status === "ready") {
    return (
      <Badge tone="good" icon="check">
        {say("statusReady")}
      </Badge>
    );
  }
  if (status === "problem") {
    return (
      <Badge tone="bad" icon="warning">
        {say("statusProblem")}
      </Badge>
    );
  }
  return <Badge tone="wait">{say("statusPending")}</Badge>;
}

/** How many files are inside, and how many of them could not be read. */
export function Inside({ children, problems }: { children: number; problems: number }) {
  const { say } = useLanguage();
  if (!children) return null;
  return (
    <p className={problems ? "rowNote" : "rowSub"}>
      {say("filesInside", { count: children })}
      {problems > 0 && say("filesInsideProblems", { count: problems })}
    </p>
  );
}

export function principalName(principal: string, say: Say): string {
  if (principal === "everyone") return say("uploadShareEveryone");
  return principal.replace(/^(group|user):/, "");
}

function sharedWith(allow: readonly string[], say: Say): string {
  const others = allow.filter((p) => !p.startsWith("user:"));
  return others.length ? others.map((p) => principalName(p, say)).join("、") : say("uploadShareMe");
}

export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** By XMLHttpRequest, because `fetch` does not say how far an upload has got. */
function put(file: File, allow: string, progress: (percent: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("allow", allow);
    form.append("file", file);
    const request = new XMLHttpRequest();
    request.open("POST", "/api/v1/uploads");
    for (const [name, value] of Object.entries(headersFor("POST"))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress(Math.floor((100 * event.loaded) / event.total));
    request.onerror = () => reject(unreachable());
    request.onload = () => {
      if (request.status < 300) return resolve();
      let body: unknown = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // not ours; the status says enough
      }
      reject(errorFrom(body, request.status));
    };
    request.send(form);
  });
}
