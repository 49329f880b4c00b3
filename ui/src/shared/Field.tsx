import { useId, useState, type InputHTMLAttributes, type ReactNode, type SelectHTMLAttributes, type TextareaHTMLAttributes } from "react";
import { Icon } from "./Icon";
import { useSay } from "./language";

interface Around {
  label: string;
  hint?: string | undefined;
  error?: string | undefined;
}

function Field({ label, hint, error, id, children }: Around & { id: string; children: ReactNode }) {
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children}
      {hint && (
        <p className="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p className="fieldProblem" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

function described(id: string, { hint, error }: Around) {
  const by = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return { ...(by ? { "aria-describedby": by } : {}), ...(error ? { "aria-invalid": true } : {}) };
}

export function TextField({ label, hint, error, ...rest }: Around & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <Field id={id} label={label} hint={hint} error={error}>
      <input id={id} className="input" {...described(id, { label, hint, error })} {...rest} />
    </Field>
  );
}

/** What is typed into it is shown only while somebody wants to see it. */
function SecretField({ id, input, ...around }: Around & { id: string; input: (shown: boolean) => ReactNode }) {
  const say = useSay();
  const [shown, setShown] = useState(false);
  return (
    <Field id={id} {...around}>
      <div className="withButton">
        {input(shown)}
        <button
          type="button"
          className="iconButton"
          aria-label={say(shown ? "passwordHide" : "passwordShow")}
          aria-pressed={shown}
          onClick={() => setShown(!shown)}
        >
          <Icon name="eye" />
        </button>
      </div>
    </Field>
  );
}

const asTyped = { autoCapitalize: "off", spellCheck: false } as const;

export function PasswordField({ label, hint, error, ...rest }: Around & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  const around = { label, hint, error };
  return (
    <SecretField
      id={id}
      {...around}
      input={(shown) => (
        <input id={id} className="input" type={shown ? "text" : "password"} {...asTyped} {...described(id, around)} {...rest} />
      )}
    />
  );
}

/** A secret of more than one line, as a key in PEM: a password field would lose its lines. */
export function SecretLinesField({ label, hint, error, ...rest }: Around & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const id = useId();
  const around = { label, hint, error };
  const quiet = { ...asTyped, autoComplete: "off" };
  return (
    <SecretField
      id={id}
      {...around}
      input={(shown) => (
        <textarea id={id} className={shown ? "input" : "input masked"} rows={4} {...quiet} {...described(id, around)} {...rest} />
      )}
    />
  );
}

export function LinesField({ label, hint, error, ...rest }: Around & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const id = useId();
  return (
    <Field id={id} label={label} hint={hint} error={error}>
      <textarea id={id} className="input" rows={3} spellCheck={false} {...described(id, { label, hint, error })} {...rest} />
    </Field>
  );
}

export function SelectField({ label, hint, error, children, ...rest }: Around & SelectHTMLAttributes<HTMLSelectElement>) {
  const id = useId();
  return (
    <Field id={id} label={label} hint={hint} error={error}>
      <select id={id} className="input" {...described(id, { label, hint, error })} {...rest}>
        {children}
      </select>
    </Field>
  );
}

export function CheckField({ label, hint, ...rest }: Around & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <div className="field check">
      <input id={id} type="checkbox" {...described(id, { label, hint })} {...rest} />
      <label htmlFor={id}>{label}</label>
      {hint && (
        <p className="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

export const lines = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
