import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";

const NEAR_PX = 48;
const MARGIN_PX = 20;

interface Stick {
  ref: RefObject<HTMLDivElement | null>;
  /** False once the reader has scrolled up; then nothing moves under their eyes. */
  stuck: boolean;
  toEnd: () => void;
  /** Other content: begin as if it were new. */
  reset: () => void;
}

/**
 * Keeps a scrolling box at its end while it grows, until the reader scrolls up.
 *
 * Once nothing streams any more, what is added below (sources, buttons) must not push the answer out
 * of sight: then the box goes no further than the start of the last `article`.
 */
export function useStick(growing: unknown, streaming: boolean): Stick {
  const ref = useRef<HTMLDivElement>(null);
  const sticking = useRef(true);
  const [stuck, setStuck] = useState(true);

  const set = useCallback((value: boolean) => {
    sticking.current = value;
    setStuck(value);
  }, []);

  const toEnd = useCallback(() => {
    const box = ref.current;
    if (!box) return;
    set(true);
    box.scrollTop = box.scrollHeight;
  }, [set]);

  const reset = useCallback(() => {
    set(true);
    if (ref.current) ref.current.scrollTop = 0;
  }, [set]);

  useEffect(() => {
    const box = ref.current;
    if (!box) return;
    const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    // Only the reader's own hand lets go; growing content and resizing do not.
    const byHand = () => {
      if (!atEnd()) set(false);
    };
    const scrolled = () => {
      if (atEnd()) set(true);
      else if (byScrollbar) set(false);
    };
    let byScrollbar = false;
    const down = (event: PointerEvent) => {
      byScrollbar = event.target === box;
    };
    const up = () => {
      byScrollbar = false;
    };
    const wheel = (event: WheelEvent) => {
      if (event.deltaY < 0 && box.scrollHeight > box.clientHeight) set(false);
    };
    const keys = (event: KeyboardEvent) => {
      if (["ArrowUp", "PageUp", "Home"].includes(event.key) && !(event.target instanceof HTMLTextAreaElement)) {
        requestAnimationFrame(byHand);
      }
    };
    box.addEventListener("scroll", scrolled, { passive: true });
    box.addEventListener("wheel", wheel, { passive: true });
    box.addEventListener("touchmove", byHand, { passive: true });
    box.addEventListener("pointerdown", down);
    window.addEventListener("pointerup", up);
    window.addEventListener("keydown", keys);
    return () => {
      box.removeEventListener("scroll", scrolled);
      box.removeEventListener("wheel", wheel);
      box.removeEventListener("touchmove", byHand);
      box.removeEventListener("pointerdown", down);
      window.removeEventListener("pointerup", up);
      window.removeEventListener("keydown", keys);
    };
  }, [set]);

  useLayoutEffect(() => {
    const box = ref.current;
    if (!box || !sticking.current) return;
    const last = [...box.querySelectorAll<HTMLElement>("article")].at(-1);
    if (streaming || !last) {
      box.scrollTop = box.scrollHeight;
      return;
    }
    const start = box.scrollTop + last.getBoundingClientRect().top - box.getBoundingClientRect().top - MARGIN_PX;
    box.scrollTop = Math.max(box.scrollTop, Math.min(box.scrollHeight, start));
  }, [growing, streaming]);

  return { ref, stuck, toEnd, reset };
}
