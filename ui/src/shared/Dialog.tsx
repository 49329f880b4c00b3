import { useEffect, useId, useRef, useState, type FormEvent, type ReactNode } from "react";
import { explain } from "../api/client";
import { Icon } from "./Icon";
import { useLanguage } from "./language";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  /** What must be read cannot be clicked away. */
  firm?: boolean;
}

/** The browser's own modal dialog: it keeps the focus inside and gives it back. */
export function Dialog({ title, onClose, children, wide, firm }: DialogProps) {
  const { say } = useLanguage();
  const ref = useRef<HTMLDialogElement>(null);
  const heading = useId();

  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement as HTMLElement | null;
    if (dialog && !dialog.open) dialog.showModal();
    return () => {
      dialog?.close();
      if (before?.isConnected) before.focus();
    };
  }, []);

  return (
    <dialog
      ref={ref}
      className={wide ? "dialog wide" : "dialog"}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        if (!firm) onClose();
      }}
      onMouseDown={(event) => {
        if (!firm && event.target === ref.current) onClose();
      }}
    >
      <div className="dialogInside">
        <header className="dialogHead">
          <h2 id={heading}>{title}</h2>
          {!firm && (
            <button type="button" className="iconButton" onClick={onClose} aria-label={say("close")}>
              <Icon name="close" />
            </button>
          )}
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  body: string;
  act: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
}

/** Asks before something that cannot be undone. */
export function Confirm({ title, body, act, onConfirm, onClose }: ConfirmProps) {
  return (
    <FormDialog title={title} act={act} danger onSubmit={onConfirm} onClose={onClose}>
      <p>{body}</p>
    </FormDialog>
  );
}

interface FormDialogProps {
  title: string;
  act: string;
  danger?: boolean;
  wide?: boolean;
  children: ReactNode;
  onSubmit: () => Promise<unknown>;
  onClose: () => void;
}

/** A dialog that does one thing: it closes when that is done and says why when it is not. */
export function FormDialog({ title, act, danger, wide, children, onSubmit, onClose }: FormDialogProps) {
  const { say, language } = useLanguage();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);

  async function submit(event: FormEvent) {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      await onSubmit();
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  }

  return (
    <Dialog title={title} onClose={onClose} {...(wide ? { wide } : {})}>
      <form onSubmit={(event) => void submit(event)} className="form">
        {children}
        {error !== null && (
          <p className="problem" role="alert">
            {error instanceof Invalid ? error.message : explain(error, language, say)}
          </p>
        )}
        <div className="actions">
          <button type="button" className="button" onClick={onClose}>
            {say("cancel")}
          </button>
          <button type="submit" className={danger ? "button danger" : "button primary"} disabled={busy}>
            {act}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** Raised by a form before it asks the server; the message is already in the reader's language. */
export class Invalid extends Error {}
