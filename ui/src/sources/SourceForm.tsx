import { useMemo, useState } from "react";
import { api, unwrap } from "../api/client";
import type { Connector, Source } from "../api/types";
import { Dialog, FormDialog, Invalid } from "../shared/Dialog";
import { CheckField, SelectField, TextField } from "../shared/Field";
import { useLanguage, useSay } from "../shared/language";
import { Await } from "../shared/Notice";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";
import { fieldsOf, type FieldSchema } from "./schema";
import { AllFields, settingsOf, TryConnection, valueOf, type Values } from "./SettingsFields";
import { formOf, timingOf } from "./timing";
import { TimingFields } from "./TimingFields";

interface Props {
  source: Source | null;
  onClose: () => void;
  onSaved: () => void;
}

export function SourceForm(props: Props) {
  const say = useSay();
  const connectors = useLoad(() => unwrap(api.GET("/api/v1/admin/connectors")), []);
  if (connectors.data) return <Filled {...props} connectors={connectors.data.connectors} />;
  return (
    <Dialog title={say(props.source ? "sourceEdit" : "sourceAdd")} onClose={props.onClose}>
      <Await loaded={connectors}>{() => null}</Await>
    </Dialog>
  );
}

/** What a folder is asked, in words; other connectors say themselves what is meant, and `allow` means less to some. */
const WORDS: Readonly<Record<string, { label: TextKey; hint: TextKey }>> = {
  root: { label: "settingRoot", hint: "settingRootHint" },
  allow: { label: "settingAllow", hint: "settingAllowHint" },
  include: { label: "settingInclude", hint: "settingGlobHint" },
  exclude: { label: "settingExclude", hint: "settingGlobHint" },
};
const OURS: ReadonlySet<string> = new Set(["folder", "uploads"]);

type Tuned = keyof Source["tuning"];

const TUNED: readonly { name: Tuned; label: TextKey; hint: TextKey; min: number; max: number; step: number }[] = [
  { name: "dense_weight", label: "tuningWeight", hint: "tuningWeightHint", min: 0, max: 1, step: 0.05 },
  { name: "chunk_chars", label: "tuningChunk", hint: "tuningChunkHint", min: 50, max: 2000, step: 1 },
  { name: "parent_chars", label: "tuningParent", hint: "tuningParentHint", min: 100, max: 8000, step: 1 },
];

type PersonalData = Source["personal_data"];

export const HANDLING: Readonly<Record<PersonalData, TextKey>> = {
  show: "personalShow",
  mask: "personalMask",
  quarantine: "personalQuarantine",
};

function Filled({ source, connectors, onClose, onSaved }: Props & { connectors: Connector[] }) {
  const { say, language } = useLanguage();
  const [kind, setKind] = useState(source?.kind ?? (connectors.find((c) => c.kind === "folder") ?? connectors[0])?.kind ?? "");
  const chosen = connectors.find((c) => c.kind === kind);
  const fields = useMemo(() => fieldsOf(chosen?.settings_schema ?? {}, language), [chosen, language]);
  const [name, setName] = useState(source?.name ?? "");
  const [timing, setTiming] = useState(() => formOf(source?.timing));
  const [enabled, setEnabled] = useState(source?.enabled ?? true);
  const [personal, setPersonal] = useState<PersonalData>(source?.personal_data ?? "show");
  const [values, setValues] = useState<Values>({});
  const [tuning, setTuning] = useState(() => Object.fromEntries(TUNED.map(({ name }) => [name, String(source?.tuning[name] ?? "")])) as Record<Tuned, string>);

  const value = (field: FieldSchema) => valueOf(field, values, source?.settings);

  async function save() {
    if (!name.trim()) throw new Invalid(say("fillIn", { field: say("sourceName") }));
    const settings = settingsOf(fields, value, label, say);
    const own = Object.fromEntries(TUNED.map(({ name }) => [name, tuning[name].trim() ? Number(tuning[name]) : null]));
    const when = timingOf(timing);
    if (!when) throw new Invalid(say("timingBoth"));
    if (source) {
      await unwrap(
        api.PATCH("/api/v1/admin/sources/{source_id}", {
          params: { path: { source_id: source.id } },
          body: {
            name: name.trim(),
            timing: when,
            tuning: own,
            personal_data: personal,
            ...(source.kind === "uploads" ? {} : { settings, enabled }),
          },
        }),
      );
    } else {
      await unwrap(api.POST("/api/v1/admin/sources", { body: { name: name.trim(), kind, settings, timing: when, tuning: own, personal_data: personal } }));
    }
    onSaved();
  }

  const label = (field: FieldSchema) => {
    const words = OURS.has(kind) ? WORDS[field.name] : undefined;
    return words ? say(words.label) : field.title;
  };
  const hint = (field: FieldSchema) => {
    const words = OURS.has(kind) ? WORDS[field.name] : undefined;
    return (words ? say(words.hint) : [field.description, field.kind === "lines" && !/1 ?行に|one per line/i.test(field.description) ? say("linesHint") : ""].filter(Boolean).join(language === "ja" ? "" : " ")) || undefined;
  };

  return (
    <FormDialog title={say(source ? "sourceEdit" : "sourceAdd")} act={say("save")} wide onClose={onClose} onSubmit={save}>
      <TextField label={say("sourceName")} aria-required value={name} maxLength={200} autoFocus onChange={(e) => setName(e.target.value)} />
      {!source && connectors.length > 1 && (
        <SelectField label={say("sourceKind")} value={kind} onChange={(e) => setKind(e.target.value)}>
          {connectors.map((c) => (
            <option key={c.kind} value={c.kind}>
              {c.kind === "folder" ? say("kindFolder") : language === "en" ? c.title_en : c.title}
            </option>
          ))}
        </SelectField>
      )}
      {chosen && !chosen.verified && <p className="hint" role="note">{say("kindUnverified")}</p>}
      <AllFields fields={fields} label={label} hint={hint} value={value} onChange={(of, next) => setValues((old) => ({ ...old, [of]: next }))} />
      {kind !== "uploads" && (
        <TryConnection
          key={kind}
          attempt={async () => {
            const settings = settingsOf(fields, value, label, say);
            return unwrap(api.POST("/api/v1/admin/sources/check", { body: { kind, settings, ...(source ? { source_id: source.id } : {}) } }));
          }}
        />
      )}
      <TimingFields form={timing} onChange={setTiming} />
      <SelectField
        label={say("personalData")}
        hint={say("personalDataHint")}
        value={personal}
        onChange={(e) => setPersonal(e.target.value as PersonalData)}
      >
        {(Object.keys(HANDLING) as PersonalData[]).map((handling) => (
          <option key={handling} value={handling}>
            {say(HANDLING[handling])}
          </option>
        ))}
      </SelectField>
      <details className="moreFields">
        <summary>{say("tuning")}</summary>
        <p className="hint">{say("tuningHint")}</p>
        {TUNED.map(({ name, label: words, hint: help, ...range }) => (
          <TextField
            key={name}
            label={say(words)}
            hint={say(help)}
            type="number"
            {...range}
            value={tuning[name]}
            onChange={(e) => setTuning((old) => ({ ...old, [name]: e.target.value }))}
          />
        ))}
      </details>
      {source && source.kind !== "uploads" && <CheckField label={say("sourceEnabled")} checked={enabled} onChange={(e) => setEnabled(e.target.checked)} />}
    </FormDialog>
  );
}
