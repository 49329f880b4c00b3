import openapiTS, { astToString } from "openapi-typescript";
import { expect, test } from "vitest";
import described from "../openapi.json?raw";
import lockFile from "../package-lock.json?raw";
import packageFile from "../package.json?raw";
import types from "../src/api/schema.d.ts?raw";

test("the client's types are those of openapi.json (npm run api)", async () => {
  const made = astToString(await openapiTS(JSON.parse(described)));
  expect(types.endsWith(made)).toBe(true);
});

test("the lock file names no download address, and every version is exact", () => {
  const lock = JSON.parse(lockFile) as { packages: Record<string, { resolved?: string; integrity?: string }> };
  for (const [name, entry] of Object.entries(lock.packages)) {
    expect(entry.resolved, name).toBeUndefined();
    if (name) expect(entry.integrity, name).toMatch(/^sha512-/);
  }
  const { dependencies, devDependencies } = JSON.parse(packageFile) as Record<string, Record<string, string>>;
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
  }
});
