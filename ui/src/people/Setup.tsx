import { useState, type FormEvent } from "react";
import { ApiError, api, explain, unwrap } from "../api/client";
import { PasswordField, TextField } from "../shared/Field";
import { useLanguage } from "../shared/language";
import { useSession } from "../shared/session";
import { Door } from "./Door";
import { SHORTEST_PASSWORD } from "./limits";

export function Setup() {
  const { say, language } = useLanguage();
  const { enter } = useSession();
  const [code, setCode] = useState("");
  const [userId, setUserId] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  function missing(): string {
    for (const [value, key] of [[code, "setupCode"], [userId, "userId"], [name, "displayName"]] as const) {
      if (!value.trim()) return say("fillIn", { field: say(key) });
    }
    if ([...password].length < SHORTEST_PASSWORD) return say("passwordShort");
    return password === again ? "" : say("passwordDiffers");
  }

  async function submit(event: FormEvent) {
    event.preventDefault();
    const wrong = missing();
    setProblem(wrong);
    if (wrong || busy) return;
    setBusy(true);
    try {
      const body = { code: code.trim(), user_id: userId.trim(), display_name: name.trim(), password };
      enter(await unwrap(api.POST("/api/v1/setup", { body })));
    } catch (error) {
      setBusy(false);
      setProblem(error instanceof ApiError && error.signedOut ? say("setupCodeWrong") : explain(error, language, say));
    }
  }

  return (
    <Door title={say("setupTitle")} lead={say("setupLead")}>
      <form className="form" onSubmit={(event) => void submit(event)} noValidate>
        <TextField label={say("setupCode")} autoComplete="one-time-code" autoCapitalize="characters" spellCheck={false} autoFocus value={code} onChange={(e) => setCode(e.target.value)} />
        <TextField label={say("userId")} autoComplete="username" autoCapitalize="off" spellCheck={false} value={userId} onChange={(e) => setUserId(e.target.value)} />
        <TextField label={say("displayName")} autoComplete="name" value={name} onChange={(e) => setName(e.target.value)} />
        <PasswordField label={say("password")} hint={say("passwordHint")} autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} />
        <PasswordField label={say("passwordAgain")} autoComplete="new-password" value={again} onChange={(e) => setAgain(e.target.value)} />
        {problem && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" className="button primary large" disabled={busy}>
          {say("setupDo")}
        </button>
      </form>
    </Door>
  );
}
