import { expect, test } from "vitest";
import { events, type ServerEvent } from "../src/ask/sse";

const STREAM =
  "\ufeff: keep-alive\n\n" +
  'event: stage\ndata: {"name":"searching"}\n\n' +
  'event: piece\r\ndata: {"text":"宿泊費は𠮷野家"}\r\n\r\n' +
  "data:one\ndata: two\nid: 7\nretry\n\n" +
  "event: empty\n\n" +
  "event: piece\rdata: 終わり\r\r" +
  "event: cut\ndata: never ended\n";

const EXPECTED: ServerEvent[] = [
  { name: "stage", data: '{"name":"searching"}' },
  { name: "piece", data: '{"text":"宿泊費は𠮷野家"}' },
  { name: "message", data: "one\ntwo" },
  { name: "piece", data: "終わり" },
];

function streamOf(chunks: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

async function read(chunks: Uint8Array[]): Promise<ServerEvent[]> {
  const found: ServerEvent[] = [];
  for await (const event of events(streamOf(chunks))) found.push(event);
  return found;
}

const bytes = new TextEncoder().encode(STREAM);

test("the stream cut in two at any byte gives the same events", async () => {
  for (let at = 0; at <= bytes.length; at += 1) {
    expect(await read([bytes.slice(0, at), bytes.slice(at)]), `cut at byte ${at}`).toEqual(EXPECTED);
  }
});

test("the stream byte by byte gives the same events", async () => {
  expect(await read([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(EXPECTED);
});

test("leaving the loop early lets go of the stream", async () => {
  let cancelled = false;
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
    cancel: () => {
      cancelled = true;
    },
  });
  for await (const event of events(stream)) {
    expect(event.data).toBe("x");
    break;
  }
  await Promise.resolve();
  expect(cancelled).toBe(true);
});
