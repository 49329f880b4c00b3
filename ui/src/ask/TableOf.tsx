import type { ReactNode } from "react";
import { useSay } from "../shared/language";
import type { Reach, Table } from "./blocks";

/** A table of an answer or of a document; `part` draws what stands in a cell. */
export function TableOf({ table, part }: { table: Table; part: (reach: Reach) => ReactNode }) {
  const say = useSay();
  return (
    <div className="answerTable" role="group" aria-label={say("answerTable")} tabIndex={0}>
      <table>
        {table.head && (
          <thead>
            <tr>
              {table.head.map((cell, n) => (
                <th key={n} scope="col">
                  {part(cell)}
                </th>
              ))}
            </tr>
          </thead>
        )}
        <tbody>
          {table.rows.map((row) => (
            <tr key={row[0]?.from}>
              {row.map((cell, n) => (
                <td key={n} className={table.figures[n] ? "figure" : undefined}>
                  {part(cell)}
                  {cell.after && part(cell.after)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
