import { useEffect, useState, type FormEvent } from "react";
import { useSay } from "../shared/language";

interface Props {
  current: number;
  count: number;
  onTurn: (page: number) => void;
}

/** Turns pages, or goes to one by its number. */
export function Pager({ current, count, onTurn }: Props) {
  const say = useSay();
  const [typed, setTyped] = useState(String(current));
  useEffect(() => setTyped(String(current)), [current]);

  function submit(event: FormEvent) {
    event.preventDefault();
    const wanted = Number(typed.normalize("NFKC"));
    if (Number.isInteger(wanted) && wanted >= 1 && wanted <= count) onTurn(wanted);
    else setTyped(String(current));
  }

  return (
    <nav className="pager" aria-label={say("docPages")}>
      <button type="button" className="button small" disabled={current <= 1} onClick={() => onTurn(current - 1)} aria-label={say("docPagePrevious")}>
        {say("previous")}
      </button>
      <form onSubmit={submit}>
        <input
          className="input"
          inputMode="numeric"
          aria-label={say("docPageNumber")}
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
          onBlur={submit}
        />
        <span>{say("docPageCount", { count })}</span>
      </form>
      <button type="button" className="button small" disabled={current >= count} onClick={() => onTurn(current + 1)} aria-label={say("docPageNext")}>
        {say("next")}
      </button>
    </nav>
  );
}
