import { useEffect, useRef, type ComponentType } from "react";
import { DirectoriesRoom } from "../directories/DirectoriesRoom";
import { GroupsRoom } from "../people/GroupsRoom";
import { KeysRoom } from "../people/KeysRoom";
import { PeopleRoom } from "../people/PeopleRoom";
import { useSay } from "../shared/language";
import { Link } from "../shared/router";
import type { TextKey } from "../shared/text";
import { SourcesRoom } from "../sources/SourcesRoom";
import { AlertsRoom } from "./AlertsRoom";
import { CatalogueRoom } from "./CatalogueRoom";
import { ExamplesRoom } from "./ExamplesRoom";
import { RetrievalRoom } from "./RetrievalRoom";
import { StatusRoom } from "./StatusRoom";
import { SynonymsRoom } from "./SynonymsRoom";
import "./admin.css";

const ROOMS: readonly { name: string; label: TextKey; Room: ComponentType }[] = [
  { name: "status", label: "navStatus", Room: StatusRoom },
  { name: "alerts", label: "navAlerts", Room: AlertsRoom },
  { name: "sources", label: "navSources", Room: SourcesRoom },
  { name: "documents", label: "navCatalogue", Room: CatalogueRoom },
  { name: "people", label: "navPeople", Room: PeopleRoom },
  { name: "groups", label: "navGroups", Room: GroupsRoom },
  { name: "directories", label: "navDirectories", Room: DirectoriesRoom },
  { name: "keys", label: "navKeys", Room: KeysRoom },
  { name: "synonyms", label: "navSynonyms", Room: SynonymsRoom },
  { name: "examples", label: "navExamples", Room: ExamplesRoom },
  { name: "retrieval", label: "navRetrieval", Room: RetrievalRoom },
];

export function AdminPage({ room }: { room: string }) {
  const say = useSay();
  const found = ROOMS.find((r) => r.name === room);
  const nav = useRef<HTMLElement>(null);
  // On a phone the rooms are a row that is wider than the screen.
  useEffect(() => {
    nav.current?.querySelector('[aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [room]);
  return (
    <div className="adminPage">
      <nav ref={nav} className="adminNav" aria-label={say("navAdmin")}>
        {ROOMS.map(({ name, label }) => (
          <Link key={name} href={`/admin/${name}`} aria-current={name === room ? "page" : undefined}>
            {say(label)}
          </Link>
        ))}
      </nav>
      <div className="page">{found ? <found.Room /> : <h1>{say("pageMissing")}</h1>}</div>
    </div>
  );
}
