import { CheckField, SelectField, TextField } from "../shared/Field";
import { useSay } from "../shared/language";
import type { TimingForm } from "./timing";

interface Props {
  form: TimingForm;
  onChange: (form: TimingForm) => void;
}

export function TimingFields({ form, onChange }: Props) {
  const say = useSay();
  const change = (part: Partial<TimingForm>) => onChange({ ...form, ...part });
  const names = [...say("timingDayNames")];
  return (
    <details className="moreFields">
      <summary>{say("timing")}</summary>
      <SelectField label={say("timingWay")} value={form.way} onChange={(e) => change({ way: e.target.value as TimingForm["way"] })}>
        <option value="interval">{say("timingInterval")}</option>
        <option value="cron">{say("timingCron")}</option>
      </SelectField>
      {form.way === "interval" ? (
        <TextField
          label={say("sourceInterval")}
          hint={say("sourceIntervalHint")}
          type="number"
          min={1}
          inputMode="numeric"
          value={form.interval}
          onChange={(e) => change({ interval: e.target.value })}
        />
      ) : (
        <TextField
          label={say("timingCronField")}
          hint={say("timingCronHint")}
          spellCheck={false}
          value={form.cron}
          onChange={(e) => change({ cron: e.target.value })}
        />
      )}
      <TextField label={say("timingQuietStart")} type="time" value={form.start} onChange={(e) => change({ start: e.target.value })} />
      <TextField
        label={say("timingQuietEnd")}
        hint={say("timingQuietHint")}
        type="time"
        value={form.end}
        onChange={(e) => change({ end: e.target.value })}
      />
      <fieldset className="days">
        <legend>{say("timingDays")}</legend>
        {form.days.map((on, day) => (
          <CheckField
            key={day}
            label={names[day] ?? ""}
            checked={on}
            onChange={(e) => change({ days: form.days.map((was, n) => (n === day ? e.target.checked : was)) })}
          />
        ))}
      </fieldset>
      <TextField
        label={say("timingRate")}
        hint={say("timingRateHint")}
        type="number"
        min={1}
        inputMode="numeric"
        value={form.rate}
        onChange={(e) => change({ rate: e.target.value })}
      />
    </details>
  );
}
