import { Component, useEffect, useState, type ReactNode } from "react";
import { api, unwrap } from "./api/client";
import type { Health, User } from "./api/types";
import { AdminPage } from "./admin/AdminPage";
import { AskPage } from "./ask/AskPage";
import { drop } from "./ask/asking";
import { DocumentPage } from "./documents/DocumentPage";
import { UploadsPage } from "./documents/UploadsPage";
import { readDocumentPath } from "./documents/paths";
import { ChangePassword } from "./people/ChangePassword";
import { Setup } from "./people/Setup";
import { SignIn } from "./people/SignIn";
import { minute } from "./shared/dates";
import { Icon } from "./shared/Icon";
import { useLanguage, useSay } from "./shared/language";
import { LanguageSwitch } from "./shared/LanguageSwitch";
import { Logo } from "./shared/Logo";
import { Menu } from "./shared/Menu";
import { Problem } from "./shared/Notice";
import { Link, match, usePath } from "./shared/router";
import { useSession } from "./shared/session";

export function App() {
  const { door, look } = useSession();
  const say = useSay();
  switch (door.at) {
    case "loading":
      return <main className="waiting" aria-busy="true" />;
    case "unreachable":
      return (
        <main className="waiting">
          <Logo />
          <Problem error={door.error} onRetry={look} />
        </main>
      );
    case "setup":
      return <Setup />;
    case "signIn":
      return <SignIn ended={door.ended} />;
    case "inside":
      return (
        <Catch said={say("pageCrashed")} act={say("reload")}>
          <Inside user={door.user} />
        </Catch>
      );
  }
}

function Inside({ user }: { user: User }) {
  const path = usePath();
  const say = useSay();
  const { leave } = useSession();
  const [changing, setChanging] = useState(false);
  const [toast, setToast] = useState("");
  const administrator = user.role === "administrator";
  const asking = path === "/" || path.startsWith("/c/");

  useEffect(() => {
    if (!toast) return;
    const timer = window.setTimeout(() => setToast(""), 6000);
    return () => window.clearTimeout(timer);
  }, [toast]);

  return (
    <div className="shell">
      <a className="skip" href="#content">
        {say("skipToContent")}
      </a>
      <header className="top">
        <Link href="/" className="home" aria-label={say("appName")}>
          <Logo />
        </Link>
        <nav className="mainNav" aria-label={say("menu")}>
          <Link href="/" aria-current={asking ? "page" : undefined}>
            {say("navAsk")}
          </Link>
          <Link href="/documents" aria-current={path === "/documents" ? "page" : undefined}>
            <span className="long">{say("navDocuments")}</span>
            <span className="short">{say("navDocumentsShort")}</span>
          </Link>
          {administrator && (
            <Link href="/admin/status" aria-current={path.startsWith("/admin") ? "page" : undefined}>
              {say("navAdmin")}
            </Link>
          )}
        </nav>
        <Menu
          label={`${say("account")}: ${user.display_name}`}
          className="accountButton"
          face={
            <>
              <Icon name="person" />
              <span className="accountName">{user.display_name}</span>
            </>
          }
        >
          <p className="menuHead">
            {user.display_name}
            <small>{user.id}</small>
          </p>
          <LanguageSwitch />
          <button type="button" onClick={() => setChanging(true)}>
            {say("passwordChange")}
          </button>
          <button
            type="button"
            onClick={() => {
              drop();
              leave().catch(() => setToast(say("unreachable")));
            }}
          >
            {say("signOut")}
          </button>
        </Menu>
      </header>
      <Starting />
      <main id="content" className={asking ? "content asking" : "content"} tabIndex={-1}>
        <Page path={path} administrator={administrator} />
      </main>
      {changing && <ChangePassword onClose={() => setChanging(false)} onDone={setToast} />}
      <div className="toast" role="status" hidden={!toast}>
        {toast}
      </div>
    </div>
  );
}

function Page({ path, administrator }: { path: string; administrator: boolean }) {
  const say = useSay();
  const conversation = match("/c/:id", path);
  if (path === "/" || conversation) {
    return <AskPage conversationId={conversation?.["id"] ?? null} />;
  }
  const document = readDocumentPath(path);
  if (document) return <DocumentPage key={document.id} {...document} />;
  if (path === "/documents") return <UploadsPage />;
  const room = path === "/admin" ? "status" : match("/admin/:room", path)?.["room"];
  if (room && administrator) return <AdminPage room={room} />;
  return (
    <div className="page">
      <h1>{say("pageMissing")}</h1>
      <p>
        <Link href="/">{say("toStart")}</Link>
      </p>
    </div>
  );
}

/** A line at the top during maintenance, and while indexes are loading or the model does not answer. */
function Starting() {
  const { say, language } = useLanguage();
  const [{ status: state, maintenance }, setHealth] = useState<Pick<Health, "status" | "maintenance">>({ status: "ready" });
  useEffect(() => {
    let timer = 0;
    const look = () => {
      unwrap(api.GET("/api/v1/health")).then(
        (health) => {
          setHealth(health);
          timer = window.setTimeout(look, health.status === "ready" ? 30_000 : 3_000);
        },
        () => {
          timer = window.setTimeout(look, 10_000);
        },
      );
    };
    look();
    return () => window.clearTimeout(timer);
  }, []);
  if (maintenance) {
    const at = minute(maintenance.until, language);
    return (
      <p className="starting" role="status">
        {at ? say("maintenanceOnUntil", { at }) : say("maintenanceOn")} {maintenance.message}
      </p>
    );
  }
  if (state === "ready") return null;
  return (
    <p className="starting" role="status">
      {say(state === "starting" ? "starting" : "modelDown")}
    </p>
  );
}

class Catch extends Component<{ said: string; act: string; children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    if (!this.state.broken) return this.props.children;
    return (
      <main className="waiting">
        <Logo />
        <p role="alert">{this.props.said}</p>
        <button type="button" className="button primary" onClick={() => window.location.reload()}>
          {this.props.act}
        </button>
      </main>
    );
  }
}
