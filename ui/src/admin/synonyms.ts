/** One group a line; 「、」, commas, tabs and 「=」 stand between the expressions. */

const BETWEEN = /[、，,\t=＝]/;

export const parse = (text: string): string[][] =>
  text
    .split("\n")
    .map((line) =>
      line
        .split(BETWEEN)
        .map((word) => word.trim())
        .filter(Boolean),
    )
    .filter((group) => group.length > 0);

export const shown = (groups: readonly (readonly string[])[]): string => groups.map((group) => group.join("、")).join("\n");
