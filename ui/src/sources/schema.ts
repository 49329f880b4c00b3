/** The little of JSON Schema that settings of sources are made of. */

import type { Language } from "../shared/text";

export interface FieldSchema {
  name: string;
  kind: "text" | "secret" | "secret area" | "number" | "flag" | "lines" | "text area" | "choice";
  title: string;
  description: string;
  required: boolean;
  /** Nobody needs it on the first day. */
  later: boolean;
  choices: string[];
  /** What each choice is called, where its own name says too little. */
  labels: Readonly<Record<string, string>>;
  initial: string | boolean;
}

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);
const SECRET = /password|secret|token|credential|key$/i;

/** English stands beside the Japanese; a connector of others may have none. */
const inLanguage = (raw: Json, key: string, language: Language) => (language === "en" ? raw[`${key}_en`] : undefined) ?? raw[key];

export function fieldsOf(schema: Json, language: Language): FieldSchema[] {
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  const required = Array.isArray(schema["required"]) ? schema["required"] : [];
  return Object.entries(properties).flatMap(([name, raw]) => {
    if (!isObject(raw)) return [];
    const one = resolve(raw, schema);
    const choices = Array.isArray(one["enum"]) ? one["enum"].map(String) : [];
    const kind = kindOf(name, one, choices);
    const labels = inLanguage(raw, "labels", language);
    return [
      {
        name,
        kind,
        title: String(inLanguage(raw, "title", language) ?? one["title"] ?? name),
        description: String(inLanguage(raw, "description", language) ?? one["description"] ?? ""),
        required: required.includes(name),
        later: raw["later"] === true,
        choices,
        labels: isObject(labels) ? (labels as Record<string, string>) : {},
        initial: shown(kind, raw["default"] ?? one["default"]),
      },
    ];
  });
}

/** `$ref` followed, "or null" taken away. */
function resolve(one: Json, root: Json): Json {
  const reference = one["$ref"];
  if (typeof reference === "string" && reference.startsWith("#/")) {
    let at: unknown = root;
    for (const step of reference.slice(2).split("/")) at = isObject(at) ? at[step] : undefined;
    return isObject(at) ? resolve(at, root) : one;
  }
  const any = one["anyOf"];
  if (Array.isArray(any)) {
    const real = any.find((option) => isObject(option) && option["type"] !== "null");
    if (isObject(real)) return { ...one, ...resolve(real, root) };
  }
  return one;
}

function kindOf(name: string, one: Json, choices: string[]): FieldSchema["kind"] {
  if (choices.length) return "choice";
  if (one["type"] === "boolean") return "flag";
  if (one["type"] === "integer" || one["type"] === "number") return "number";
  if (one["type"] === "array") return "lines";
  const secret = one["format"] === "password" || one["writeOnly"] === true || SECRET.test(name);
  if (one["format"] === "multiline") return secret ? "secret area" : "text area";
  return secret ? "secret" : "text";
}

/** A stored value as the form shows it. */
export function shown(kind: FieldSchema["kind"], value: unknown): string | boolean {
  if (kind === "flag") return value === true;
  if (kind === "lines") return Array.isArray(value) ? value.join("\n") : "";
  return value === undefined || value === null ? "" : String(value);
}

/** What the form holds as the server takes it; undefined where nothing was given. */
export function taken(field: FieldSchema, value: string | boolean): unknown {
  if (typeof value === "boolean") return value;
  if (field.kind === "lines") {
    return value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  }
  if (value.trim() === "") return field.required ? "" : undefined;
  return field.kind === "number" ? Number(value) : field.kind === "secret" || field.kind === "secret area" ? value : value.trim();
}
