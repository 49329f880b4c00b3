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

interface Locked {
  resolved?: string;
  integrity?: string;
  optionalDependencies?: Record<string, string>;
}

test("the lock file knows every platform's packages: without one of them `npm ci` refuses them all", () => {
  const { packages } = JSON.parse(lockFile) as { packages: Record<string, Locked> };
  const known = Object.keys(packages).map((path) => path.split("node_modules/").at(-1));
  for (const { optionalDependencies } of Object.values(packages)) {
    for (const name of Object.keys(optionalDependencies ?? {})) expect(known).toContain(name);
  }
});

test("the lock file names no download address, and every version is exact", () => {
  const lock = JSON.parse(lockFile) as { packages: Record<string, Locked> };
  for (const [name, entry] of Object.entries(lock.packages)) {
    expect(entry.resolved, name).toBeUndefined();
    if (name) expect(entry.integrity, name).toMatch(/^sha512-/);
  }
  const { dependencies, devDependencies } = JSON.parse(packageFile) as Record<string, Record<string, string>>;
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
  }
});
