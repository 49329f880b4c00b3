import { useState } from "react";
import { api, unwrap } from "../api/client";
import type { Summary } from "../api/types";
import { age, type Age } from "../shared/dates";
import { Confirm, FormDialog } from "../shared/Dialog";
import { TextField } from "../shared/Field";
import { Icon } from "../shared/Icon";
import { useSay } from "../shared/language";
import { Menu } from "../shared/Menu";
import { Problem } from "../shared/Notice";
import { Link } from "../shared/router";

interface Props {
  conversations: Summary[] | null;
  error: unknown;
  more: boolean;
  current: string | null;
  onMore: () => void;
  onRetry: () => void;
  onNew: () => void;
  onChosen: () => void;
  onRenamed: (id: string, title: string) => void;
  onDeleted: (id: string) => void;
}

const AGES: readonly Age[] = ["today", "yesterday", "thisWeek", "older"];

export function ConversationList(props: Props) {
  const { conversations, error, more, current, onMore, onRetry, onNew, onChosen } = props;
  const say = useSay();
  const [renaming, setRenaming] = useState<Summary | null>(null);
  const [deleting, setDeleting] = useState<Summary | null>(null);
  const titled = (c: Summary) => c.title || say("conversationUntitled");

  return (
    <div className="conversations">
      <Link
        href="/"
        className="button newConversation"
        onClick={() => {
          onNew();
          onChosen();
        }}
      >
        <Icon name="plus" />
        {say("conversationNew")}
      </Link>
      {error && !conversations ? <Problem error={error} onRetry={onRetry} /> : null}
      {conversations?.length === 0 && <p className="quiet">{say("conversationsNone")}</p>}
      {conversations &&
        AGES.map((when) => {
          const group = conversations.filter((c) => age(c.updated_at) === when);
          if (!group.length) return null;
          return (
            <section key={when} aria-label={say(when)}>
              <h3>{say(when)}</h3>
              <ul>
                {group.map((c) => (
                  <li key={c.id} className={c.id === current ? "conversation current" : "conversation"}>
                    <Link
                      href={`/c/${encodeURIComponent(c.id)}`}
                      aria-current={c.id === current ? "page" : undefined}
                      title={titled(c)}
                      onClick={onChosen}
                    >
                      {titled(c)}
                    </Link>
                    <Menu label={say("conversationMenu", { title: titled(c) })} face={<Icon name="dots" />}>
                      <button type="button" onClick={() => setRenaming(c)}>
                        <Icon name="pencil" />
                        {say("conversationRename")}
                      </button>
                      <button type="button" className="danger" onClick={() => setDeleting(c)}>
                        <Icon name="trash" />
                        {say("delete")}
                      </button>
                    </Menu>
                  </li>
                ))}
              </ul>
            </section>
          );
        })}
      {more && (
        <button type="button" className="quietButton" onClick={onMore}>
          {say("more")}
        </button>
      )}
      {renaming && <Rename conversation={renaming} onClose={() => setRenaming(null)} onRenamed={props.onRenamed} />}
      {deleting && (
        <Confirm
          title={say("conversationDeleteTitle")}
          body={say("conversationDeleteBody", { title: titled(deleting) })}
          act={say("delete")}
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await unwrap(api.DELETE("/api/v1/conversations/{conversation_id}", { params: { path: { conversation_id: deleting.id } } }));
            props.onDeleted(deleting.id);
          }}
        />
      )}
    </div>
  );
}

function Rename({ conversation, onClose, onRenamed }: { conversation: Summary; onClose: () => void; onRenamed: Props["onRenamed"] }) {
  const say = useSay();
  const [title, setTitle] = useState(conversation.title);
  return (
    <FormDialog
      title={say("conversationRename")}
      act={say("save")}
      onClose={onClose}
      onSubmit={async () => {
        const wanted = title.trim();
        if (!wanted || wanted === conversation.title) return;
        await unwrap(
          api.PATCH("/api/v1/conversations/{conversation_id}", {
            params: { path: { conversation_id: conversation.id } },
            body: { title: wanted },
          }),
        );
        onRenamed(conversation.id, wanted);
      }}
    >
      <TextField label={say("conversationName")} value={title} maxLength={200} autoFocus onChange={(e) => setTitle(e.target.value)} />
    </FormDialog>
  );
}
