import { useMemo, useState } from "react";
import { api, unwrap } from "../api/client";
import type { Directory } from "../api/types";
import { FormDialog, Invalid } from "../shared/Dialog";
import { TextField } from "../shared/Field";
import { useLanguage } from "../shared/language";
import { fieldsOf, type FieldSchema } from "../sources/schema";
import { AllFields, settingsOf, TryConnection, valueOf, type Values } from "../sources/SettingsFields";

interface Props {
  directory: Directory | null;
  schema: Record<string, unknown>;
  onClose: () => void;
  onSaved: () => void;
}

export function DirectoryForm({ directory, schema, onClose, onSaved }: Props) {
  const { say, language } = useLanguage();
  const fields = useMemo(() => fieldsOf(schema, language), [schema, language]);
  const [name, setName] = useState("");
  const [values, setValues] = useState<Values>({});
  const value = (field: FieldSchema) => valueOf(field, values, directory?.settings);
  const settings = () => settingsOf(fields, value, (field) => field.title, say);

  async function save() {
    if (!directory && !name.trim()) throw new Invalid(say("fillIn", { field: say("directoryName") }));
    const body = { settings: settings() };
    if (directory) {
      await unwrap(api.PATCH("/api/v1/admin/directories/{directory_id}", { params: { path: { directory_id: directory.id } }, body }));
    } else {
      await unwrap(api.POST("/api/v1/admin/directories", { body: { name: name.trim(), ...body } }));
    }
    onSaved();
  }

  return (
    <FormDialog title={say(directory ? "directoryEdit" : "directoryAdd")} act={say("save")} wide onClose={onClose} onSubmit={save}>
      {directory ? (
        <p className="rowTitle">{directory.name}</p>
      ) : (
        <TextField
          label={say("directoryName")}
          hint={say("directoryNameHint")}
          value={name}
          maxLength={60}
          autoFocus
          aria-required
          onChange={(e) => setName(e.target.value)}
        />
      )}
      <AllFields
        fields={fields}
        label={(field) => field.title}
        hint={(field) => field.description || undefined}
        value={value}
        onChange={(of, next) => setValues((old) => ({ ...old, [of]: next }))}
      />
      <TryConnection
        attempt={() =>
          unwrap(
            api.POST("/api/v1/admin/directories/check", {
              body: { settings: settings(), ...(directory ? { directory_id: directory.id } : {}) },
            }),
          )
        }
      />
    </FormDialog>
  );
}
