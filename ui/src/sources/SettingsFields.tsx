import { useState } from "react";
import { explain } from "../api/client";
import { CheckField, LinesField, PasswordField, SecretLinesField, SelectField, TextField } from "../shared/Field";
import { Invalid } from "../shared/Dialog";
import { Icon } from "../shared/Icon";
import { useLanguage, useSay } from "../shared/language";
import type { Say } from "../shared/text";
import { shown, taken, type FieldSchema } from "./schema";

type Settings = Record<string, unknown>;
export type Values = Readonly<Record<string, string | boolean>>;

/** What a form shows of a field: as it was typed, else as it is stored, else as it begins. */
export function valueOf(field: FieldSchema, values: Values, stored: Settings | undefined): string | boolean {
  const given = values[field.name];
  if (given !== undefined) return given;
  const kept = stored?.[field.name];
  return kept === undefined ? field.initial : shown(field.kind, kept);
}

/** The settings as the server takes them. Throws Invalid, naming the field that is still empty. */
export function settingsOf(fields: readonly FieldSchema[], value: (field: FieldSchema) => string | boolean, label: (field: FieldSchema) => string, say: Say): Settings {
  const settings: Settings = {};
  for (const field of fields) {
    const given = taken(field, value(field));
    if (given === "" && field.required) throw new Invalid(say("fillIn", { field: label(field) }));
    if (given !== undefined) settings[field.name] = given;
  }
  return settings;
}

interface OneFieldProps {
  field: FieldSchema;
  label: string;
  hint: string | undefined;
  value: string | boolean;
  onChange: (value: string | boolean) => void;
}

export function OneField({ field, label, hint, value, onChange }: OneFieldProps) {
  const must = field.required ? { "aria-required": true } : {};
  switch (field.kind) {
    case "flag":
      return <CheckField label={label} hint={hint} checked={value === true} onChange={(e) => onChange(e.target.checked)} />;
    case "lines":
    case "text area":
      return <LinesField label={label} hint={hint} value={String(value)} {...must} onChange={(e) => onChange(e.target.value)} />;
    case "choice":
      return (
        <SelectField label={label} hint={hint} value={String(value)} {...must} onChange={(e) => onChange(e.target.value)}>
          {field.choices.map((choice) => (
            <option key={choice} value={choice}>
              {field.labels[choice] ?? choice}
            </option>
          ))}
        </SelectField>
      );
    case "secret":
      return <PasswordField label={label} hint={hint} autoComplete="off" value={String(value)} {...must} onChange={(e) => onChange(e.target.value)} />;
    case "secret area":
      return <SecretLinesField label={label} hint={hint} value={String(value)} {...must} onChange={(e) => onChange(e.target.value)} />;
    case "number":
      return <TextField label={label} hint={hint} type="number" step="any" value={String(value)} {...must} onChange={(e) => onChange(e.target.value)} />;
    case "text":
      return <TextField label={label} hint={hint} spellCheck={false} autoCapitalize="off" autoComplete="off" value={String(value)} {...must} onChange={(e) => onChange(e.target.value)} />;
  }
}

interface AllProps {
  fields: readonly FieldSchema[];
  label: (field: FieldSchema) => string;
  hint: (field: FieldSchema) => string | undefined;
  value: (field: FieldSchema) => string | boolean;
  onChange: (name: string, value: string | boolean) => void;
}

/** Every field; what is not needed on the first day stays folded. */
export function AllFields({ fields, label, hint, value, onChange }: AllProps) {
  const say = useSay();
  const one = (field: FieldSchema) => (
    <OneField
      key={field.name}
      field={field}
      label={label(field)}
      hint={hint(field)}
      value={value(field)}
      onChange={(next) => onChange(field.name, next)}
    />
  );
  const later = fields.filter((field) => field.later);
  return (
    <>
      {fields.filter((field) => !field.later).map(one)}
      {later.length > 0 && (
        <details className="moreFields">
          <summary>{say("settingsLater")}</summary>
          {later.map(one)}
        </details>
      )}
    </>
  );
}

/** Tries what the form holds, and says in a sentence what was found or what is wrong. */
export function TryConnection({ attempt }: { attempt: () => Promise<{ found: string }> }) {
  const { say, language } = useLanguage();
  const [state, setState] = useState<{ found: string; good: boolean } | "busy" | null>(null);

  async function go() {
    setState("busy");
    try {
      setState({ found: (await attempt()).found, good: true });
    } catch (problem) {
      setState({ found: problem instanceof Invalid ? problem.message : explain(problem, language, say), good: false });
    }
  }

  return (
    <div className="trial">
      <button type="button" className="button" disabled={state === "busy"} onClick={() => void go()}>
        <Icon name="retry" />
        {say("checkConnection")}
      </button>
      <p role="status" className={state && state !== "busy" ? (state.good ? "trialGood" : "rowProblem") : "rowSub"}>
        {state === "busy" ? say("checking") : state?.found}
      </p>
    </div>
  );
}
