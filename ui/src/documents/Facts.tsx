import type { ReactNode } from "react";
import type { About } from "../api/types";
import { FAMILY } from "../ask/Narrowing";
import { day, minute } from "../shared/dates";
import { useLanguage } from "../shared/language";
import { Badge } from "../shared/Notice";
import { Link } from "../shared/router";
import { useSession } from "../shared/session";
import type { Say, TextKey } from "../shared/text";
import { InsideList } from "./Inside";
import { PageStateLine } from "./Reading";
import { Readers } from "./Readers";
import { principalName, size } from "./UploadsPage";
import { documentPath } from "./paths";

const EVENTS = {
  added: "docEventAdded",
  changed: "docEventChanged",
  reread: "docEventReread",
  moved: "docEventMoved",
  access: "docEventAccess",
  failed: "docEventFailed",
  corrected: "docEventCorrected",
  restored: "docEventRestored",
} as const satisfies Record<string, TextKey>;
const STANDINGS = {
  in_force: "docVersionInForce",
  superseded: "docVersionSuperseded",
  ahead: "docVersionAhead",
} as const satisfies Record<string, TextKey>;

/** What is known of a document beside its text. */
export function Facts({ known }: { known: About }) {
  const { say, language } = useLanguage();
  const dated = (value: string | null) => (value ? day(`${value}T00:00`, language) : "—");
  return (
    <div className="facts">
      <dl>
        {known.given_title !== null && <Fact name={say("docGivenTitle")}>{known.given_title}</Fact>}
        {known.parent_id && (
          <Fact name={say("docHolder")}>
            <Link href={documentPath(known.parent_id)}>{known.within ?? known.parent_id}</Link>
          </Fact>
        )}
        <Fact name={say("sourceFrom")}>{known.source}</Fact>
        <Fact name={say("sourceUri")}>
          <span className="path">{known.uri}</span>
        </Fact>
        <Fact name={say("docKind")}>{known.family ? say(FAMILY[known.family]) : (known.media_type ?? "—")}</Fact>
        <Fact name={say("docSize")}>{known.size_bytes === null ? "—" : size(known.size_bytes)}</Fact>
        <Fact name={say("docLength")}>
          {say("docLengthOf", { characters: known.length.toLocaleString(), chunks: known.chunks.toLocaleString() })}
        </Fact>
        <Fact name={say("docInForce")}>
          {dated(known.in_force)} {known.in_force_corrected && <Badge tone="plain">{say("docCorrected")}</Badge>}
        </Fact>
        <Fact name={say("docModified")}>{minute(known.modified_at, language)}</Fact>
        <Fact name={say("docAdded")}>{minute(known.added_at, language)}</Fact>
        <Fact name={say("docUpdated")}>{minute(known.updated_at, language)}</Fact>
      </dl>
      {known.readable && known.children > 0 && <InsideList key={known.updated_at} id={known.id} />}
      {known.versions.length > 0 && (
        <section>
          <h2>{say("docVersions")}</h2>
          <ul className="plainList">
            {known.versions.map((one) => (
              <li key={one.document_id}>
                {one.document_id === known.id ? (
                  <>
                    <span>{one.title}</span> <span className="rowSub">{say("docThis")}</span>
                  </>
                ) : (
                  <Link href={documentPath(one.document_id)}>{one.title}</Link>
                )}
                <span className="rowSub">{dated(one.on)}</span>
                <Badge tone={one.standing === "in_force" ? "good" : "wait"}>{say(STANDINGS[one.standing])}</Badge>
              </li>
            ))}
          </ul>
        </section>
      )}
      {known.doubtful.length > 0 && (
        <section>
          <h2>{say("docDoubtful")}</h2>
          <ul className="plainList">
            {known.doubtful.map((one) => (
              <li key={one.number}>
                {known.readable ? (
                  <Link href={documentPath(known.id, one.number)}>{say("docPageRef", { page: one.number })}</Link>
                ) : (
                  say("docPageRef", { page: one.number })
                )}
                <PageStateLine state={one} />
              </li>
            ))}
          </ul>
        </section>
      )}
      {known.notes.length > 0 && (
        <section>
          <h2>{say("docNotes")}</h2>
          <ul className="plainList">
            {known.notes.map((note, i) => (
              <li key={i}>{note}</li>
            ))}
          </ul>
        </section>
      )}
      {known.access && <Access id={known.id} layers={known.access} />}
      <section>
        <h2>{say("docHistory")}</h2>
        {known.history.length === 0 ? (
          <p className="hint">{say("docHistoryNone")}</p>
        ) : (
          <ol className="history">
            {known.history.map((event, i) => (
              <li key={i}>
                <time dateTime={event.at}>{minute(event.at, language)}</time>
                <span>
                  <strong>{say(EVENTS[event.kind])}</strong>
                  {event.actor && <span className="rowSub"> {principalName(event.actor.split(" ")[0] ?? "", say)}</span>}
                  {event.detail && <span className="historyDetail">{event.detail}</span>}
                </span>
              </li>
            ))}
          </ol>
        )}
      </section>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Access({ id, layers }: { id: string; layers: NonNullable<About["access"]> }) {
  const { say } = useLanguage();
  const { door } = useSession();
  return (
    <section>
      <h2>{say("docAccess")}</h2>
      {layers.length === 0 ? (
        <p className="hint">{say("docAccessNobody")}</p>
      ) : (
        <>
          {layers.length > 1 && <p className="hint">{say("docAccessAll")}</p>}
          <ul className="plainList">
            {layers.map((layer, i) => (
              <li key={i}>
                <span>{layer.allow.length ? say("docAccessAllow", { names: names(layer.allow, say) }) : say("docAccessNobody")}</span>
                {layer.deny.length > 0 && <span className="rowSub">{say("docAccessDeny", { names: names(layer.deny, say) })}</span>}
              </li>
            ))}
          </ul>
        </>
      )}
      {door.at === "inside" && door.user.role === "administrator" && <Readers key={id} id={id} />}
    </section>
  );
}

const names = (principals: readonly string[], say: Say): string => principals.map((p) => principalName(p, say)).join("、");
