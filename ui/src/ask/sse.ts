/** Server-sent events out of a byte stream that may be cut anywhere, even inside a character. */

export interface ServerEvent {
  name: string;
  data: string;
}

export async function* events(stream: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const lines = new Lines();
  let name = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
      for (const line of lines.take(text)) {
        if (line === "") {
          // An event without data is no event; one that the stream's end cuts off is dropped.
          if (data.length) yield { name: name || "message", data: data.join("\n") };
          name = "";
          data = [];
          continue;
        }
        if (line.startsWith(":")) continue;
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        let content = colon < 0 ? "" : line.slice(colon + 1);
        if (content.startsWith(" ")) content = content.slice(1);
        if (field === "event") name = content;
        else if (field === "data") data.push(content);
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Whole lines out of pieces of text; a line ends in LF, CR or CR LF. */
class Lines {
  private rest = "";

  *take(piece: string): Generator<string> {
    this.rest += piece;
    for (;;) {
      const end = this.rest.search(/[\r\n]/);
      // A CR at the very end may be half of a CR LF.
      if (end < 0 || (this.rest[end] === "\r" && end === this.rest.length - 1)) return;
      const next = this.rest.startsWith("\r\n", end) ? end + 2 : end + 1;
      const line = this.rest.slice(0, end);
      this.rest = this.rest.slice(next);
      yield line;
    }
  }
}
