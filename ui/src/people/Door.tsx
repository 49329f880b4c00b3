import type { ReactNode } from "react";
import { LanguageSwitch } from "../shared/LanguageSwitch";
import { Logo } from "../shared/Logo";
import "./people.css";

/** The frame of what is seen before one is inside. */
export function Door({ title, lead, children }: { title: string; lead: string; children: ReactNode }) {
  return (
    <main className="door" id="content">
      <div className="doorCard">
        <Logo />
        <h1>{title}</h1>
        <p className="lead">{lead}</p>
        {children}
      </div>
      <LanguageSwitch />
    </main>
  );
}
