import { useState } from "react";
import { api, explain, unwrap } from "../api/client";
import type { Directory } from "../api/types";
import { minute } from "../shared/dates";
import { Confirm } from "../shared/Dialog";
import { Icon } from "../shared/Icon";
import { useLanguage } from "../shared/language";
import { Menu } from "../shared/Menu";
import { Await, Badge, Empty } from "../shared/Notice";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { DirectoryForm } from "./DirectoryForm";
import { EntryList } from "./EntryList";
import { Names } from "./Names";
import "../sources/sources.css";
import "./directories.css";

const EVERY_MS = 5_000;

export function DirectoriesRoom() {
  const { say, language } = useLanguage();
  const directories = useLoad(() => unwrap(api.GET("/api/v1/admin/directories")), [], EVERY_MS);
  const [editing, setEditing] = useState<Directory | "new" | null>(null);
  const [asking, setAsking] = useState<{ what: "delete" | "pause" | "accept"; of: Directory } | null>(null);
  const [said, setSaid] = useState("");
  const close = () => setAsking(null);

  async function sync(of: Directory, accept: boolean) {
    await unwrap(api.POST("/api/v1/admin/directories/{directory_id}/sync", { params: { path: { directory_id: of.id } }, body: { accept } }));
    tell(of, "directorySyncing");
  }

  async function enable(of: Directory, enabled: boolean) {
    await unwrap(api.PATCH("/api/v1/admin/directories/{directory_id}", { params: { path: { directory_id: of.id } }, body: { enabled } }));
    tell(of, enabled ? "directoryResumed" : "directoryPaused");
  }

  function tell(of: Directory, what: TextKey) {
    setSaid(`${of.name}: ${say(what)}`);
    directories.reload();
  }

  const now = (doing: Promise<void>) => void doing.catch((error: unknown) => setSaid(explain(error, language, say)));

  return (
    <>
      <div className="titleRow">
        <h1>{say("directoriesTitle")}</h1>
        <button type="button" className="button primary" disabled={!directories.data} onClick={() => setEditing("new")}>
          <Icon name="plus" />
          {say("directoryAdd")}
        </button>
      </div>
      <p className="lead">{say("directoriesLead")}</p>
      <p role="status" className="said">
        {said}
      </p>
      <Await loaded={directories}>
        {(data) =>
          data.directories.length === 0 ? (
            <Empty icon="person">{say("directoryNone")}</Empty>
          ) : (
            <ul className="cards">
              {data.directories.map((one) => (
                <li key={one.id} className="card">
                  <div className="cardHead">
                    <Icon name="person" />
                    <h2>{one.name}</h2>
                    <State of={one} />
                    <Menu label={`${say("menu")}: ${one.name}`} face={<Icon name="dots" />}>
                      <button type="button" onClick={() => setEditing(one)}>
                        <Icon name="pencil" />
                        {say("edit")}
                      </button>
                      {one.enabled && (
                        <button type="button" onClick={() => setAsking({ what: "pause", of: one })}>
                          <Icon name="stop" />
                          {say("directoryPause")}
                        </button>
                      )}
                      <button type="button" className="danger" onClick={() => setAsking({ what: "delete", of: one })}>
                        <Icon name="trash" />
                        {say("delete")}
                      </button>
                    </Menu>
                  </div>
                  <p className="rowSub path">{[one.settings["server"], one.settings["base"]].filter(Boolean).join(" · ")}</p>
                  <dl className="figures">
                    <Figure label="directoryPeople" value={one.people} />
                    <Figure label="directoryJoined" value={one.joined} />
                    <Figure label="directoryGroups" value={one.groups} />
                    <Figure label="directoryProblems" value={one.problems} bad={one.problems > 0} />
                  </dl>
                  {one.problem && <p className="rowProblem">{one.problem}</p>}
                  <p className="rowSub">
                    {say("directoryLast")}：<LastLook of={one} />
                  </p>
                  <div className="actions left">
                    {one.held && (
                      <button type="button" className="button small danger" onClick={() => setAsking({ what: "accept", of: one })}>
                        {say("directoryAccept")}
                      </button>
                    )}
                    {one.enabled ? (
                      <button type="button" className="button small" onClick={() => now(sync(one, false))}>
                        <Icon name="retry" />
                        {say("directorySync")}
                      </button>
                    ) : (
                      <button type="button" className="button small" onClick={() => now(enable(one, true))}>
                        <Icon name="retry" />
                        {say("directoryResume")}
                      </button>
                    )}
                  </div>
                </li>
              ))}
            </ul>
          )
        }
      </Await>
      {directories.data && directories.data.directories.length > 0 && (
        <EntryList looks={directories.data.directories.map((one) => one.last?.at ?? "").join()} onChanged={directories.reload} />
      )}
      <Names />
      {editing && directories.data && (
        <DirectoryForm
          directory={editing === "new" ? null : editing}
          schema={directories.data.settings_schema}
          onClose={() => setEditing(null)}
          onSaved={directories.reload}
        />
      )}
      {asking?.what === "pause" && (
        <Confirm
          title={say("directoryPauseTitle")}
          body={say("directoryPauseBody", { name: asking.of.name })}
          act={say("directoryPause")}
          onClose={close}
          onConfirm={() => enable(asking.of, false)}
        />
      )}
      {asking?.what === "accept" && asking.of.held && (
        <Confirm
          title={say("directoryAcceptTitle")}
          body={say("directoryAcceptBody", {
            entries: asking.of.held.entries,
            of: asking.of.held.of,
            memberships: asking.of.held.memberships,
            ofMemberships: asking.of.held.of_memberships,
          })}
          act={say("directoryAccept")}
          onClose={close}
          onConfirm={() => sync(asking.of, true)}
        />
      )}
      {asking?.what === "delete" && (
        <Confirm
          title={say("directoryDeleteTitle")}
          body={say("directoryDeleteBody", { name: asking.of.name, people: asking.of.people, groups: asking.of.groups })}
          act={say("delete")}
          onClose={close}
          onConfirm={async () => {
            await unwrap(api.DELETE("/api/v1/admin/directories/{directory_id}", { params: { path: { directory_id: asking.of.id } } }));
            directories.reload();
          }}
        />
      )}
    </>
  );
}

function Figure({ label, value, bad }: { label: TextKey; value: number; bad?: boolean }) {
  const { say } = useLanguage();
  return (
    <div className={bad ? "bad" : undefined}>
      <dt>{say(label)}</dt>
      <dd>{value.toLocaleString()}</dd>
    </div>
  );
}

function LastLook({ of }: { of: Directory }) {
  const { say, language } = useLanguage();
  if (!of.last) return <>{say("directoryNever")}</>;
  const { at, seconds, done, changed, removed } = of.last;
  const told = { at: minute(at, language), seconds, changed, removed };
  const next = of.enabled ? [say("directoryNext", { at: minute(of.due_at, language) })] : [];
  const until = of.valid_until ? [say("directoryUntil", { at: minute(of.valid_until, language) })] : [];
  return <>{[say(done ? "directoryDid" : "directoryFailed", told), ...next, ...until].join(" · ")}</>;
}

function State({ of }: { of: Directory }) {
  const { say } = useLanguage();
  if (!of.enabled) return <Badge tone="plain">{say("directoryPaused")}</Badge>;
  if (of.looking) return <Badge tone="wait">{say("directoryLooking")}</Badge>;
  if (of.held) {
    return (
      <Badge tone="bad" icon="warning">
        {say("directoryHeld")}
      </Badge>
    );
  }
  if (of.problem) {
    return (
      <Badge tone="bad" icon="warning">
        {say("directoryTrouble")}
      </Badge>
    );
  }
  if (!of.last) return <Badge tone="wait">{say("directoryWaiting")}</Badge>;
  return (
    <Badge tone="good" icon="check">
      {say("directoryOk")}
    </Badge>
  );
}
