import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Alerts, Destinations } from "../api/types";
import { minute } from "../shared/dates";
import { PasswordField, SelectField, TextField } from "../shared/Field";
import { useLanguage, useSay } from "../shared/language";
import { Await, Badge, Problem } from "../shared/Notice";
import type { TextKey } from "../shared/text";
import { useLoad } from "../shared/useLoad";

const EVERY_MS = 10_000;
const WAYS: Record<string, TextKey> = { mail: "wayMail", webhook: "wayWebhook", syslog: "waySyslog" };

export function AlertsRoom() {
  const say = useSay();
  const alerts = useLoad(() => unwrap(api.GET("/api/v1/admin/alerts")), [], EVERY_MS);
  return (
    <>
      <h1>{say("alertsTitle")}</h1>
      <p className="lead">{say("alertsLead")}</p>
      <Await loaded={alerts}>
        {(now) => (
          <>
            <Open alerts={now} />
            <Ways alerts={now} />
            <Editor kept={now.destinations} fixed={now.fixed} onSaved={alerts.reload} />
          </>
        )}
      </Await>
    </>
  );
}

function Open({ alerts }: { alerts: Alerts }) {
  const { say, language } = useLanguage();
  return (
    <>
      <h2>{say("alertsOpen")}</h2>
      {alerts.looked_at === null && <p role="alert">{say("alertsNever")}</p>}
      {alerts.looked_at !== null && alerts.open.length === 0 && (
        <Badge tone="good" icon="check">
          {say("alertsNone")}
        </Badge>
      )}
      <ul className="plainList">
        {alerts.open.map((one) => (
          <li key={one.key}>
            <Badge tone={one.severity === "critical" ? "bad" : "wait"} icon="warning">
              {one.title}
            </Badge>{" "}
            {one.said} <small>{say("alertsSince", { at: minute(one.since, language) })}</small>
          </li>
        ))}
      </ul>
    </>
  );
}

function Ways({ alerts }: { alerts: Alerts }) {
  const { say, language } = useLanguage();
  const [said, setSaid] = useState("");
  const [error, setError] = useState<unknown>(null);

  async function test() {
    setSaid("");
    setError(null);
    try {
      await unwrap(api.POST("/api/v1/admin/alerts/test"));
      setSaid(say("alertsTesting"));
    } catch (why) {
      setError(why);
    }
  }

  return (
    <>
      <h2>{say("alertsWays")}</h2>
      {alerts.ways.length === 0 && <p>{say("alertsNoWay")}</p>}
      <ul className="plainList">
        {alerts.ways.map((way) => (
          <li key={way.name}>
            <strong>{say(WAYS[way.name] ?? "waySyslog")}</strong>{" "}
            {way.sent_at ? say("alertsSent", { at: minute(way.sent_at, language) }) : say("alertsNotSent")}
            {way.waiting > 0 && ` · ${say("alertsWaiting", { count: way.waiting })}`}
            {way.problem && <p className="rowProblem">{way.problem}</p>}
          </li>
        ))}
      </ul>
      {error ? <Problem error={error} /> : null}
      <div className="actions left">
        <button type="button" className="button" disabled={alerts.ways.length === 0} onClick={() => void test()}>
          {say("alertsTest")}
        </button>
        <span role="status">{said}</span>
      </div>
    </>
  );
}

function Editor({ kept, fixed, onSaved }: { kept: Destinations; fixed: string[]; onSaved: () => void }) {
  const say = useSay();
  const [now, setNow] = useState(kept);
  const [saving, setSaving] = useState(false);
  const [done, setDone] = useState(false);
  const [error, setError] = useState<unknown>(null);

  async function save() {
    setSaving(true);
    setError(null);
    try {
      const { destinations } = await unwrap(api.PUT("/api/v1/admin/alerts/destinations", { body: now }));
      setNow(destinations);
      setDone(true);
      onSaved();
    } catch (why) {
      setError(why);
    } finally {
      setSaving(false);
    }
  }

  const field = (name: keyof Destinations) => ({
    value: now[name] ?? "",
    disabled: saving || fixed.includes(name),
    autoComplete: "off",
    onChange: (event: { target: { value: string } }) => {
      setNow({ ...now, [name]: event.target.value });
      setDone(false);
    },
  });
  const hint = (name: string, key?: TextKey) => (fixed.includes(name) ? say("alertsFixed") : key && say(key));

  return (
    <form
      className="form adminForm"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <fieldset className="form">
        <legend>{say("wayMail")}</legend>
        <TextField label={say("mailServer")} placeholder="mail.example.co.jp:587" hint={hint("mail_server")} {...field("mail_server")} />
        <SelectField label={say("mailSecurity")} {...field("mail_security")}>
          <option value="starttls">STARTTLS</option>
          <option value="tls">TLS</option>
          <option value="none">{say("mailSecurityNone")}</option>
        </SelectField>
        <TextField label={say("mailUser")} {...field("mail_user")} />
        <PasswordField label={say("mailPassword")} {...field("mail_password")} autoComplete="new-password" />
        <TextField label={say("mailFrom")} placeholder="kura@example.co.jp" {...field("mail_from")} />
        <TextField label={say("mailTo")} placeholder="it@example.co.jp" hint={hint("mail_to", "mailToHint")} {...field("mail_to")} />
      </fieldset>
      <fieldset className="form">
        <legend>{say("wayWebhook")}</legend>
        <TextField label={say("webhookUrl")} placeholder="https://chat.example.co.jp/hooks/…" hint={hint("webhook_url")} {...field("webhook_url")} />
        <PasswordField
          label={say("webhookSecret")}
          hint={hint("webhook_secret", "webhookSecretHint")}
          {...field("webhook_secret")}
          autoComplete="new-password"
        />
      </fieldset>
      <fieldset className="form">
        <legend>{say("waySyslog")}</legend>
        <TextField label={say("syslogPlace")} placeholder="local" hint={hint("syslog", "syslogHint")} {...field("syslog")} />
      </fieldset>
      {error ? <Problem error={error} /> : null}
      <div className="acts">
        <button type="submit" className="button primary" disabled={saving}>
          {say("save")}
        </button>
        <span role="status">{done ? say("alertsSaved") : ""}</span>
      </div>
    </form>
  );
}
