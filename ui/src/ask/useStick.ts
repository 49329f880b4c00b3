import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";

const NEAR_PX = 48;

interface Stick {
  ref: RefObject<HTMLDivElement | null>;
  /** False once the reader has scrolled up; then nothing moves under their eyes. */
  stuck: boolean;
  toEnd: () => void;
}

/** Keeps a scrolling box at its end while it grows, until the reader scrolls up. */
export function useStick(growing: unknown): Stick {
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
    if (box && sticking.current) box.scrollTop = box.scrollHeight;
  }, [growing]);

  return { ref, stuck, toEnd };
}
