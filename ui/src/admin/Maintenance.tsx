import { useState } from "react";
import { api, unwrap } from "../api/client";
import { TextField } from "../shared/Field";
import { minute } from "../shared/dates";
import { useLanguage } from "../shared/language";
import { Await, Problem } from "../shared/Notice";
import { useLoad } from "../shared/useLoad";

const EVERY_MS = 10_000;

/** Keeping readers out for a while, and letting them in again. */
export function Maintenance() {
  const { say, language } = useLanguage();
  const health = useLoad(() => unwrap(api.GET("/api/v1/health")), [], EVERY_MS);
  const [message, setMessage] = useState("");
  const [until, setUntil] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);

  async function change(call: () => Promise<unknown>) {
    setBusy(true);
    setError(null);
    try {
      await call();
      health.reload();
    } catch (why) {
      setError(why);
    } finally {
      setBusy(false);
    }
  }

  const begin = () =>
    change(() =>
      unwrap(
        api.PUT("/api/v1/admin/maintenance", {
          body: { message, until: until ? new Date(until).toISOString() : null },
        }),
      ),
    );

  return (
    <section>
      <h2>{say("maintenance")}</h2>
      <p>{say("maintenanceLead")}</p>
      <Await loaded={health}>
        {({ maintenance }) =>
          maintenance ? (
            <>
              <p role="status">
                {maintenance.until
                  ? say("maintenanceOnUntil", { at: minute(maintenance.until, language) })
                  : say("maintenanceOn")}{" "}
                {maintenance.message}
              </p>
              <button
                type="button"
                className="button primary"
                disabled={busy}
                onClick={() => void change(() => unwrap(api.DELETE("/api/v1/admin/maintenance")))}
              >
                {say("maintenanceEnd")}
              </button>
            </>
          ) : (
            <form
              onSubmit={(event) => {
                event.preventDefault();
                void begin();
              }}
            >
              <TextField
                label={say("maintenanceMessage")}
                maxLength={400}
                value={message}
                onChange={(event) => setMessage(event.target.value)}
              />
              <TextField
                label={say("maintenanceUntil")}
                type="datetime-local"
                value={until}
                onChange={(event) => setUntil(event.target.value)}
              />
              <button type="submit" className="button" disabled={busy}>
                {say("maintenanceBegin")}
              </button>
            </form>
          )
        }
      </Await>
      {error ? <Problem error={error} /> : null}
    </section>
  );
}
