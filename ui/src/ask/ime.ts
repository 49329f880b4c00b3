/**
 * Enter that confirms a conversion must never send the question.
 *
 * Chrome and Firefox mark that key as composing; Safari ends the composition first and then sends
 * the key with code 229; some Linux input methods send a plain Enter right after the composition.
 */

export interface EnterKey {
  key: string;
  keyCode: number;
  shiftKey: boolean;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
  repeat: boolean;
  isComposing: boolean;
  timeStamp: number;
}

/** Nobody presses Enter twice within this time: an Enter so soon after a composition ended it. */
const SAME_KEY_MS = 60;

export class Composition {
  private composing = false;
  private endedAt = Number.NEGATIVE_INFINITY;

  start(): void {
    this.composing = true;
  }

  end(timeStamp: number): void {
    this.composing = false;
    this.endedAt = timeStamp;
  }

  /** Focus left: whatever was being composed is over. */
  reset(): void {
    this.composing = false;
  }

  sends(event: EnterKey): boolean {
    if (event.key !== "Enter" || event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return false;
    if (this.composing || event.isComposing || event.keyCode === 229 || event.repeat) return false;
    return event.timeStamp - this.endedAt > SAME_KEY_MS;
  }
}
