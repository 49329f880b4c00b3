import type { Source } from "../api/types";

export type Timing = Source["timing"];

/** A timing as a form holds it. */
export interface TimingForm {
  way: "interval" | "cron";
  interval: string;
  cron: string;
  start: string;
  end: string;
  days: readonly boolean[]; // from Monday
  rate: string; // thousand bytes a second
}

const WEEKDAYS = [0, 1, 2, 3, 4];

export function formOf(timing: Timing | undefined): TimingForm {
  const days = timing?.quiet?.days ?? WEEKDAYS;
  return {
    way: timing?.cron ? "cron" : "interval",
    interval: timing?.interval_s ? String(timing.interval_s) : "",
    cron: timing?.cron ?? "",
    start: timing?.quiet?.start ?? "",
    end: timing?.quiet?.end ?? "",
    days: Array.from({ length: 7 }, (_, day) => days.includes(day)),
    rate: timing?.bytes_per_s ? String(timing.bytes_per_s / 1000) : "",
  };
}

/** What the form means; null where its quiet hours are half filled in. */
export function timingOf(form: TimingForm): Timing | null {
  const days = form.days.flatMap((on, day) => (on ? [day] : []));
  const quiet = form.start && form.end && days.length > 0 ? { start: form.start, end: form.end, days } : null;
  if (!quiet && (form.start || form.end)) return null;
  return {
    interval_s: form.way === "interval" && form.interval.trim() ? Number(form.interval) : null,
    cron: form.way === "cron" ? form.cron.trim() || null : null,
    quiet,
    bytes_per_s: form.rate.trim() ? Math.round(Number(form.rate) * 1000) : null,
  };
}
