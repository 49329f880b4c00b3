import { useEffect, useRef, useState, type FormEvent } from "react";
import { ApiError, api, explain, unwrap, waitFor } from "../api/client";
import { PasswordField, TextField } from "../shared/Field";
import { useLanguage } from "../shared/language";
import { useSession } from "../shared/session";
import { Door } from "./Door";

/** The page stays at its address: once signed in, the reader is back where they were. */
export function SignIn({ ended }: { ended: boolean }) {
  const { say, language } = useLanguage();
  const { enter } = useSession();
  const [userId, setUserId] = useState("");
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const alert = useRef<HTMLParagraphElement>(null);

  useEffect(() => {
    if (problem) alert.current?.focus();
  }, [problem]);

  async function submit(event: FormEvent) {
    event.preventDefault();
    if (busy) return;
    if (!userId.trim() || !password) {
      return setProblem(say("fillIn", { field: say(userId.trim() ? "password" : "userId") }));
    }
    setBusy(true);
    setProblem("");
    try {
      enter(await unwrap(api.POST("/api/v1/session", { body: { user_id: userId.trim(), password } })));
    } catch (error) {
      setBusy(false);
      if (error instanceof ApiError && error.status === 401) {
        setPassword("");
        setProblem(say("signInFailed"));
      } else if (error instanceof ApiError && error.kind === "TooManyAttempts") {
        setProblem(say("signInLocked") + (error.retryAfterS === null ? "" : waitFor(error.retryAfterS, say)));
      } else setProblem(explain(error, language, say));
    }
  }

  return (
    <Door title={say("signIn")} lead={ended ? say("signedOutNote") : say("signInLead")}>
      <form className="form" onSubmit={(event) => void submit(event)} noValidate>
        <TextField
          label={say("userId")}
          name="username"
          autoComplete="username"
          autoCapitalize="off"
          spellCheck={false}
          autoFocus
          value={userId}
          onChange={(e) => setUserId(e.target.value)}
        />
        <PasswordField
          label={say("password")}
          name="password"
          autoComplete="current-password"
          value={password}
          onChange={(e) => setPassword(e.target.value)}
        />
        {problem && (
          <p className="problem" role="alert" tabIndex={-1} ref={alert}>
            {problem}
          </p>
        )}
        <button type="submit" className="button primary large" disabled={busy}>
          {say(busy ? "signingIn" : "signIn")}
        </button>
        <p className="hint">{say("signInHelp")}</p>
      </form>
    </Door>
  );
}
