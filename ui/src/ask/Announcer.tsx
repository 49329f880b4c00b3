import { useEffect, useRef, useState } from "react";
import { useSay } from "../shared/language";
import type { Live } from "./asking";
import { stageText } from "./Exchange";

const SENTENCE_END = /[。．！？!?\n]/g;

/** Tells a screen reader what is going on: each stage, each finished sentence, the end. Never half a word.
 * `waiting`: an answer is made that this tab does not listen to. */
export function Announcer({ live, waiting }: { live: Live | null; waiting: boolean }) {
  const say = useSay();
  const said = useRef(0);
  const [words, setWords] = useState("");

  const stage = live && live.state === "running" && !live.text ? stageText(live, say) : "";
  useEffect(() => {
    said.current = 0;
    if (stage) setWords(stage);
  }, [stage]);

  const text = live?.text ?? "";
  const state = live?.state;
  useEffect(() => {
    if (!text) return;
    let end = said.current;
    if (state === "running") {
      for (const found of text.slice(said.current).matchAll(SENTENCE_END)) end = said.current + found.index + 1;
    } else end = text.length;
    if (end > said.current) {
      setWords(text.slice(said.current, end).replace(/\[\d+\]/g, ""));
      said.current = end;
    } else if (state === "answered") setWords(say("stageDone"));
  }, [text, state, say]);

  useEffect(() => {
    if (state === "stopped") setWords(say("endedCancelled"));
    if (state === "broken") setWords(say("endedBroken"));
  }, [state, say]);

  const waited = useRef(false);
  useEffect(() => {
    if (waiting) setWords(say("stageAnswering"));
    else if (waited.current) setWords(say("stageDone"));
    waited.current = waiting;
  }, [waiting, say]);

  return (
    <div className="offscreen" aria-live="polite" aria-atomic="true">
      {words}
    </div>
  );
}
