import { useEffect, useId, useState } from "react";
import { api, unwrap } from "../api/client";
import { principalName } from "../documents/UploadsPage";
import { Invalid } from "../shared/Dialog";
import { SelectField, TextField } from "../shared/Field";
import { useSay } from "../shared/language";
import { Await } from "../shared/Notice";
import { nodeName } from "../people/ways";
import type { Say, TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";

export type Kind = "rule" | "user" | "group" | "nobody";

/** Whom somebody or something is said to be. */
export interface Means {
  kind: Kind;
  name: string;
}

export function meansOf(principal: string | null): Means {
  const [kind = "", ...rest] = (principal ?? "").split(":");
  if (kind === "user" || kind === "group") return { kind, name: rest.join(":") };
  return { kind: "nobody", name: "" };
}

/** As the server takes it; null is the rule. Throws Invalid. */
export function said(means: Means, say: Say): string | null {
  if (means.kind === "rule") return null;
  if (means.kind === "nobody") return "nobody";
  const name = means.name.trim();
  if (!name) throw new Invalid(say("fillIn", { field: say(means.kind === "user" ? "meansUserId" : "meansGroupName") }));
  return `${means.kind}:${name}`;
}

const WORDS: Readonly<Record<Kind, TextKey>> = { rule: "meansRule", user: "meansUser", group: "meansGroup", nobody: "meansNobody" };

interface Props {
  means: Means;
  kinds: readonly Kind[];
  words?: Partial<Record<Kind, TextKey>>;
  onChange: (means: Means) => void;
}

export function MeansField({ means, kinds, words, onChange }: Props) {
  const say = useSay();
  const list = useId();
  const users = useLoad(() => unwrap(api.GET("/api/v1/admin/users")), []);
  const groups = useLoad(() => unwrap(api.GET("/api/v1/admin/groups")), []);
  const names =
    means.kind === "user"
      ? (users.data?.users ?? []).map((one) => [one.id, one.display_name] as const)
      : (groups.data?.groups ?? []).map((one) => [one.name, ""] as const);
  return (
    <>
      <SelectField label={say("meansTitle")} value={means.kind} onChange={(e) => onChange({ kind: e.target.value as Kind, name: "" })}>
        {kinds.map((kind) => (
          <option key={kind} value={kind}>
            {say(words?.[kind] ?? WORDS[kind])}
          </option>
        ))}
      </SelectField>
      {(means.kind === "user" || means.kind === "group") && (
        <>
          <TextField
            label={say(means.kind === "user" ? "meansUserId" : "meansGroupName")}
            value={means.name}
            list={list}
            maxLength={100}
            autoCapitalize="off"
            autoComplete="off"
            spellCheck={false}
            aria-required
            onChange={(e) => onChange({ ...means, name: e.target.value })}
          />
          <datalist id={list}>
            {names.map(([name, title]) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </datalist>
        </>
      )}
    </>
  );
}

/** What a person would count as and read, were they `node` too. Nothing is changed by asking. */
export function Would({ node, userId }: { node: string; userId: string }) {
  const say = useSay();
  const known = useLoad(() => unwrap(api.GET("/api/v1/admin/users")), []);
  const there = known.data?.users.some((one) => one.id === userId);
  const settled = useSettled(there ? userId : "");
  if (!userId || !known.data) return null;
  if (!there) return <p className="hint">{say("meansUserNone", { id: userId })}</p>;
  return settled ? <Change node={node} userId={settled} /> : null;
}

function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(value), 250);
    return () => window.clearTimeout(timer);
  }, [value]);
  return settled;
}

function Change({ node, userId }: { node: string; userId: string }) {
  const say = useSay();
  const seen = (also: string[]) =>
    unwrap(api.GET("/api/v1/admin/users/{user_id}/sight", { params: { path: { user_id: userId }, query: { also } } }));
  const both = useLoad(() => Promise.all([seen([]), seen([node])]), [node, userId]);
  return (
    <div className="would" role="group" aria-label={say("wouldTitle")}>
      <h3>{say("wouldTitle")}</h3>
      <Await loaded={both}>
        {([before, after]) => {
          const held = new Set(before.principals.map((one) => one.principal));
          const gained = after.principals.filter((one) => !held.has(one.principal) && one.principal.startsWith("group:"));
          const shelves = after.sources.flatMap((one) => {
            const old = before.sources.find((b) => b.source === one.source)?.seen ?? 0;
            return old === one.seen ? [] : [{ ...one, old }];
          });
          return (
            <>
              {shelves.length === 0 && <p className="hint">{say("wouldNothing")}</p>}
              <ul className="plainList">
                {shelves.map((one) => (
                  <li key={one.source}>
                    <span>{one.source}</span>
                    <span className="rowSub">{say("wouldCount", { before: one.old, after: one.seen, documents: one.documents })}</span>
                  </li>
                ))}
              </ul>
              {gained.length > 0 && (
                <>
                  <h3>{say("wouldGain")}</h3>
                  <ul className="plainList">
                    {gained.slice(0, 20).map((one) => (
                      <li key={one.principal}>
                        <span>{principalName(one.principal, say)}</span>
                        <span className="rowSub">{one.way.slice(1, -1).map((p) => nodeName(p, after.names, say)).join(" → ")}</span>
                      </li>
                    ))}
                  </ul>
                </>
              )}
            </>
          );
        }}
      </Await>
    </div>
  );
}
