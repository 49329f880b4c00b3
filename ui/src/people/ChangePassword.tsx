import { useState } from "react";
import { ApiError, api, unwrap } from "../api/client";
import { FormDialog, Invalid } from "../shared/Dialog";
import { PasswordField } from "../shared/Field";
import { useSay } from "../shared/language";
import { useSession } from "../shared/session";
import { SHORTEST_PASSWORD } from "./limits";

export function ChangePassword({ onClose, onDone }: { onClose: () => void; onDone: (said: string) => void }) {
  const say = useSay();
  const { enter } = useSession();
  const [current, setCurrent] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  return (
    <FormDialog
      title={say("passwordChange")}
      act={say("save")}
      onClose={onClose}
      onSubmit={async () => {
        if ([...password].length < SHORTEST_PASSWORD) throw new Invalid(say("passwordShort"));
        if (password !== again) throw new Invalid(say("passwordDiffers"));
        try {
          enter(await unwrap(api.PUT("/api/v1/session/password", { body: { current, new: password } })));
        } catch (error) {
          if (error instanceof ApiError && error.signedOut) throw new Invalid(say("passwordWrong"));
          throw error;
        }
        onDone(say("passwordChanged"));
      }}
    >
      <PasswordField label={say("passwordCurrent")} autoComplete="current-password" autoFocus value={current} onChange={(e) => setCurrent(e.target.value)} />
      <PasswordField label={say("passwordNew")} hint={say("passwordHint")} autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} />
      <PasswordField label={say("passwordAgain")} autoComplete="new-password" value={again} onChange={(e) => setAgain(e.target.value)} />
    </FormDialog>
  );
}
