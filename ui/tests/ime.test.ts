import { expect, test } from "vitest";
import { Composition, type EnterKey } from "../src/ask/ime";

const enter = (part: Partial<EnterKey> = {}): EnterKey => ({
  key: "Enter",
  keyCode: 13,
  shiftKey: false,
  ctrlKey: false,
  altKey: false,
  metaKey: false,
  repeat: false,
  isComposing: false,
  timeStamp: 10_000,
  ...part,
});

test("a plain Enter sends; Shift+Enter, a held key and other keys do not", () => {
  const composition = new Composition();
  expect(composition.sends(enter())).toBe(true);
  expect(composition.sends(enter({ shiftKey: true }))).toBe(false);
  expect(composition.sends(enter({ repeat: true }))).toBe(false);
  expect(composition.sends(enter({ key: "a" }))).toBe(false);
});

test("Chrome and Firefox: the key comes while composing", () => {
  const composition = new Composition();
  composition.start();
  expect(composition.sends(enter({ isComposing: true, keyCode: 229 }))).toBe(false);
  expect(composition.sends(enter())).toBe(false);
});

test("Safari: the composition ends first, the key has code 229", () => {
  const composition = new Composition();
  composition.start();
  composition.end(9_000);
  expect(composition.sends(enter({ keyCode: 229 }))).toBe(false);
});

test("an input method that sends a plain Enter right after the composition", () => {
  const composition = new Composition();
  composition.start();
  composition.end(9_999);
  expect(composition.sends(enter({ timeStamp: 10_000 }))).toBe(false);
  expect(composition.sends(enter({ timeStamp: 10_400 }))).toBe(true);
});

test("leaving the field in mid-composition does not block Enter for ever", () => {
  const composition = new Composition();
  composition.start();
  composition.reset();
  expect(composition.sends(enter())).toBe(true);
});
