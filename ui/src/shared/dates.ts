import type { Language } from "./text";

const LOCALE = { ja: "ja-JP", en: "en-GB" } as const;

export function day(value: string | null | undefined, language: Language): string {
  if (!value) return "";
  return new Intl.DateTimeFormat(LOCALE[language], { year: "numeric", month: "long", day: "numeric" }).format(new Date(value));
}

export function minute(value: string | null | undefined, language: Language): string {
  if (!value) return "";
  return new Intl.DateTimeFormat(LOCALE[language], {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
  }).format(new Date(value));
}

export type Age = "today" | "yesterday" | "thisWeek" | "older";

/** How long ago, by calendar days here. */
export function age(value: string, now: Date = new Date()): Age {
  const start = (date: Date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  const days = Math.round((start(now) - start(new Date(value))) / 86_400_000);
  if (days <= 0) return "today";
  if (days === 1) return "yesterday";
  return days <= 7 ? "thisWeek" : "older";
}
