import { expect, test } from "vitest";
import { formOf, timingOf, type Timing } from "../src/sources/timing";

const NONE: Timing = { interval_s: null, cron: null, quiet: null, bytes_per_s: null };
const NIGHTLY: Timing = {
  interval_s: null,
  cron: "0 3 * * *",
  quiet: { start: "08:30", end: "18:00", days: [0, 1, 2, 3, 4] },
  bytes_per_s: 500_000,
};

test.each([NONE, NIGHTLY, { ...NONE, interval_s: 600 }, { ...NONE, quiet: { start: "22:00", end: "06:00", days: [6] } }])(
  "what a form is filled with is what it gives: %j",
  (timing) => expect(timingOf(formOf(timing))).toEqual(timing),
);

test("a new source has nothing of its own", () => expect(timingOf(formOf(undefined))).toEqual(NONE));

test("one way at a time", () => {
  const both = { ...formOf(NIGHTLY), interval: "60" };
  expect(timingOf(both)).toMatchObject({ interval_s: null, cron: "0 3 * * *" });
  expect(timingOf({ ...both, way: "interval" })).toMatchObject({ interval_s: 60, cron: null });
});

test("quiet hours are whole or none", () => {
  const form = formOf(NIGHTLY);
  expect(timingOf({ ...form, end: "" })).toBeNull();
  expect(timingOf({ ...form, days: form.days.map(() => false) })).toBeNull();
  expect(timingOf({ ...form, start: "", end: "" })).toMatchObject({ quiet: null });
});
