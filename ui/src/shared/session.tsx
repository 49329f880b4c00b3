import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { ApiError, api, onSignedOut, setCsrfToken, unwrap } from "../api/client";
import type { SignedIn, User } from "../api/types";

export type Door =
  | { at: "loading" }
  | { at: "unreachable"; error: unknown }
  | { at: "setup" }
  | { at: "signIn"; ended: boolean }
  | { at: "inside"; user: User };

interface Doorkeeper {
  door: Door;
  enter: (session: SignedIn) => void;
  leave: () => Promise<void>;
  look: () => void;
}

const Context = createContext<Doorkeeper | null>(null);

export function SessionProvider({ children }: { children: ReactNode }) {
  const [door, setDoor] = useState<Door>({ at: "loading" });

  const last = useRef("");
  const enter = useCallback((session: SignedIn) => {
    // Drafts and choices wait for who typed them; somebody else begins with an empty page.
    if (last.current && last.current !== session.user.id) return window.location.assign("/");
    last.current = session.user.id;
    setCsrfToken(session.csrf_token, session.user.id);
    setDoor({ at: "inside", user: session.user });
  }, []);

  const look = useCallback(() => {
    void (async () => {
      try {
        enter(await unwrap(api.GET("/api/v1/session")));
      } catch (error) {
        // closed for maintenance: administrators may sign in, and only they come as far as this page
        const outside = error instanceof ApiError && (error.signedOut || error.kind === "Closed");
        if (!outside) return setDoor({ at: "unreachable", error });
        try {
          const { needed } = await unwrap(api.GET("/api/v1/setup"));
          setDoor(needed ? { at: "setup" } : { at: "signIn", ended: false });
        } catch (second) {
          setDoor({ at: "unreachable", error: second });
        }
      }
    })();
  }, [enter]);

  const leave = useCallback(async () => {
    try {
      await unwrap(api.DELETE("/api/v1/session"));
    } catch (error) {
      if (!(error instanceof ApiError && error.signedOut)) throw error;
    }
    // Everything on the page belonged to whoever has just left.
    window.location.assign("/");
  }, []);

  useEffect(() => {
    onSignedOut(() => {
      setCsrfToken("", "");
      setDoor((door) => (door.at === "inside" ? { at: "signIn", ended: true } : door));
    });
    look();
  }, [look]);

  const value = useMemo(() => ({ door, enter, leave, look }), [door, enter, leave, look]);
  return <Context value={value}>{children}</Context>;
}

export function useSession(): Doorkeeper {
  const value = useContext(Context);
  if (!value) throw new Error("no SessionProvider");
  return value;
}
