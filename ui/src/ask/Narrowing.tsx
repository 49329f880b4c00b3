import { useCallback, useId, useRef, useState } from "react";
import { api, unwrap } from "../api/client";
import type { Filter } from "../api/types";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Await } from "../shared/Notice";
import type { Say, TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { useOutside } from "../shared/useOutside";
import { ALL, isNarrow, narrow, useNarrowing } from "./narrowing";

type Family = Filter["types"][number];

export const FAMILY: Readonly<Record<Family, TextKey>> = {
  pdf: "familyPdf",
  word: "familyWord",
  excel: "familyExcel",
  powerpoint: "familyPowerpoint",
  web: "familyWeb",
  book: "familyBook",
  image: "familyImage",
  markdown: "familyMarkdown",
  csv: "familyCsv",
  data: "familyData",
  archive: "familyArchive",
  text: "familyText",
  mail: "familyMail",
};

/** Beside the question: which documents it is asked of, and a panel to choose them. */
export function Narrowing() {
  const say = useSay();
  const filter = useNarrowing();
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();

  useOutside(root, open, useCallback(() => setOpen(false), []));

  return (
    <div
      className="narrowing"
      ref={root}
      onKeyDown={(event) => {
        // Enter would send the question from here.
        if (event.key === "Enter" && event.target instanceof HTMLInputElement) event.preventDefault();
        if (event.key !== "Escape" || !open) return;
        event.preventDefault();
        event.stopPropagation();
        setOpen(false);
      }}
    >
      <button type="button" className="quietButton" aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
        <Icon name="search" />
        {isNarrow(filter) ? say("narrowedTo", { what: inWords(filter, say) }) : say("narrow")}
      </button>
      {isNarrow(filter) && (
        <button type="button" className="quietButton" onClick={() => narrow(ALL)}>
          {say("narrowOff")}
        </button>
      )}
      <section id={id} className="narrowingPanel" aria-label={say("narrow")} hidden={!open}>
        {open && <Panel filter={filter} />}
      </section>
    </div>
  );
}

function inWords(filter: Filter, say: Say): string {
  const days = filter.modified_from || filter.modified_to ? `${filter.modified_from ?? ""}～${filter.modified_to ?? ""}` : "";
  return [...filter.sources, ...filter.types.map((family) => say(FAMILY[family])), days].filter(Boolean).join("・");
}

function Panel({ filter }: { filter: Filter }) {
  const say = useSay();
  const offered = useLoad(() => unwrap(api.GET("/api/v1/filters")), []);
  const day = (name: "modified_from" | "modified_to", label: TextKey) => (
    <label className="narrowingDay">
      {say(label)}
      <input
        type="date"
        className="input"
        min="1900-01-01"
        max="2999-12-31"
        value={filter[name] ?? ""}
        onChange={(event) => narrow({ ...filter, [name]: event.target.value || null })}
      />
    </label>
  );
  return (
    <Await loaded={offered}>
      {({ sources, types }) => (
        <>
          <Choices legend={say("narrowSources")} all={sources} chosen={filter.sources} face={(name) => name} onChange={(next) => narrow({ ...filter, sources: next })} />
          <Choices legend={say("narrowTypes")} all={types} chosen={filter.types} face={(family) => say(FAMILY[family])} onChange={(next) => narrow({ ...filter, types: next })} />
          <fieldset>
            <legend>{say("narrowDays")}</legend>
            {day("modified_from", "narrowFrom")}
            {day("modified_to", "narrowTo")}
          </fieldset>
        </>
      )}
    </Await>
  );
}

interface ChoicesProps<T extends string> {
  legend: string;
  all: readonly T[];
  chosen: readonly T[];
  face: (one: T) => string;
  onChange: (next: T[]) => void;
}

function Choices<T extends string>({ legend, all, chosen, face, onChange }: ChoicesProps<T>) {
  const say = useSay();
  return (
    <fieldset>
      <legend>{legend}</legend>
      {!all.length && <p className="hint">{say("narrowNone")}</p>}
      {all.map((one) => (
        <label key={one} className="narrowingChoice">
          <input
            type="checkbox"
            checked={chosen.includes(one)}
            onChange={(event) => onChange(event.target.checked ? [...chosen, one] : chosen.filter((c) => c !== one))}
          />
          {face(one)}
        </label>
      ))}
    </fieldset>
  );
}
