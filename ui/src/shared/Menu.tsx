import { useCallback, useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { useOutside } from "./useOutside";

/** A button that shows a few more. Esc, a click outside and choosing all close it. */
export function Menu({ label, face, className = "iconButton", children }: { label: string; face: ReactNode; className?: string; children: ReactNode }) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();

  useOutside(root, open, useCallback(() => setOpen(false), []));

  function keys(event: KeyboardEvent) {
    if (!open) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      setOpen(false);
      button.current?.focus();
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const items = [...(root.current?.querySelectorAll<HTMLElement>(".menuList button, .menuList a") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const step = event.key === "ArrowDown" ? 1 : -1;
    items[(at + step + items.length) % items.length]?.focus();
    event.preventDefault();
  }

  return (
    <div className="menu" ref={root} onKeyDown={keys}>
      <button
        type="button"
        ref={button}
        className={className}
        aria-label={label}
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
      >
        {face}
      </button>
      <div
        id={id}
        className="menuList"
        hidden={!open}
        onClick={(event) => {
          if (!(event.target as HTMLElement).closest("button, a")) return;
          // A dialog that opens now gives the focus back here.
          button.current?.focus();
          setOpen(false);
        }}
      >
        {open && children}
      </div>
    </div>
  );
}
