import { useSay } from "../shared/language";

interface Props {
  label: string;
  page: number;
  size: number;
  total: number;
  onPage: (page: number) => void;
}

/** Through a list that comes in pages; nothing where one page is all. */
export function Paging({ label, page, size, total, onPage }: Props) {
  const say = useSay();
  if (total <= size) return null;
  return (
    <nav className="paging" aria-label={label}>
      <button type="button" className="button small" disabled={page <= 1} onClick={() => onPage(page - 1)}>
        {say("previous")}
      </button>
      <span role="status">{say("pageOf", { total, from: (page - 1) * size + 1, to: Math.min(total, page * size) })}</span>
      <button type="button" className="button small" disabled={page * size >= total} onClick={() => onPage(page + 1)}>
        {say("next")}
      </button>
    </nav>
  );
}
