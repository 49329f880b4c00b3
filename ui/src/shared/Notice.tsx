import type { ReactNode } from "react";
import { explain } from "../api/client";
import { Icon, type IconName } from "./Icon";
import { useLanguage } from "./language";
import type { Loaded } from "./useLoad";

export function Empty({ icon = "document", children }: { icon?: IconName; children: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} />
      <div>{children}</div>
    </div>
  );
}

export function Problem({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { say, language } = useLanguage();
  return (
    <div className="problem" role="alert">
      <p>{explain(error, language, say)}</p>
      {onRetry && (
        <button type="button" className="button" onClick={onRetry}>
          <Icon name="retry" />
          {say("retry")}
        </button>
      )}
    </div>
  );
}

/** The data once it is there; until then that it is coming, or why it is not. */
export function Await<T>({ loaded, children }: { loaded: Loaded<T>; children: (data: T) => ReactNode }) {
  const { say } = useLanguage();
  if (loaded.data === null) {
    if (loaded.error) return <Problem error={loaded.error} onRetry={loaded.reload} />;
    return (
      <p className="loading" role="status">
        {say("loading")}
      </p>
    );
  }
  return (
    <>
      {loaded.error ? <Problem error={loaded.error} onRetry={loaded.reload} /> : null}
      {children(loaded.data)}
    </>
  );
}

/** What a document is stamped with, as 社外秘. */
export function Stamp({ confidentiality }: { confidentiality: string | null }) {
  const { say } = useLanguage();
  if (!confidentiality) return null;
  return (
    <Badge tone="bad" title={say("confidentiality")}>
      {confidentiality}
    </Badge>
  );
}

export type Tone = "good" | "bad" | "wait" | "plain";

export function Badge({ tone, icon, children, title }: { tone: Tone; icon?: IconName; children: ReactNode; title?: string }) {
  return (
    <span className={`badge ${tone}`} title={title}>
      {icon && <Icon name={icon} />}
      {children}
    </span>
  );
}
