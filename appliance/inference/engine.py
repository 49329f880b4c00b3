"""One thread owns the language model. Requests wait in a bounded queue before it.

One sequence at a time: prompt in bounded steps, then token by token, and at each
step the request may be cancelled.
"""

from __future__ import annotations

import codecs
import ctypes
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from appliance.errors import ModelBusy, PromptTooLong
from appliance.inference.cores import Cores

log = logging.getLogger("kura.infer")

STEP_TOKENS = 128  # of a prompt at once: a cancelled request waits for one step at most
Finish = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 40
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """`shared` is the part of `prompt` that is the same for everyone; only it is reused
    between requests, so that nobody can tell from the timing what others asked."""

    prompt: str
    limit: int
    shared: str = ""
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Piece:
    text: str


@dataclass(frozen=True)
class End:
    finish: Finish
    prompt_tokens: int = 0
    tokens: int = 0
    message: str = ""


class Job:
    """A request under way. `emit` is called from the engine's thread, with an End last."""

    def __init__(self, request: Request, tokens: list[int], emit: Callable[[Piece | End], None]):
        self.request = request
        self.tokens = tokens
        self.emit = emit
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()


class Engine:
    """Raises at construction if the model cannot be loaded. `path` and `adapter` are verified."""

    def __init__(
        self,
        path: Path,
        adapter: Path | None,
        *,
        context_tokens: int,
        queue_size: int,
        cores: Cores,
        threads: int = 0,
    ) -> None:
        import llama_cpp

        self._api: Any = llama_cpp
        count = threads or os.cpu_count() or 1
        self._llama: Any = llama_cpp.Llama(
            model_path=str(path),
            lora_path=str(adapter) if adapter else None,
            n_ctx=context_tokens,
            n_batch=STEP_TOKENS,
            n_ubatch=STEP_TOKENS,
            n_threads=count,
            n_threads_batch=count,
            n_gpu_layers=-1,
            verbose=False,
        )
        self._vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        self.context_tokens = context_tokens
        self._cores = cores
        self._tokenizing = threading.Lock()
        self._queue: queue.Queue[Job | None] = queue.Queue(queue_size)
        self._seconds = 3.0  # a request's usual time, for Retry-After
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(10)

    def tokenize(self, text: str) -> list[int]:
        """Special tokens in the text are plain text: nobody can forge a role."""
        with self._tokenizing:
            return list(self._llama.tokenize(text.encode(), add_bos=True, special=False))

    def submit(self, request: Request, emit: Callable[[Piece | End], None]) -> Job:
        """Raises PromptTooLong, or ModelBusy when the queue is full."""
        tokens = self.tokenize(request.prompt)
        if len(tokens) + request.limit > self.context_tokens:
            raise PromptTooLong(len(tokens) + request.limit, self.context_tokens)
        job = Job(request, tokens, emit)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise ModelBusy(
                f"{self._queue.maxsize} requests are already waiting",
                retry_after_s=max(1.0, self._seconds * self._queue.maxsize / 2),
            ) from None
        return job

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    # --- the engine's thread ---------------------------------------------------

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.cancelled:
                job.emit(End("cancelled", len(job.tokens)))
                continue
            started = time.monotonic()
            try:
                with self._cores.urgent():
                    end = self._run(job)
            except Exception as error:
                # The next request must find a clean context, whatever this one did.
                log.exception("generation failed")
                self._llama.reset()
                end = End("error", len(job.tokens), 0, f"{type(error).__name__}: {error}")
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - started)
            job.emit(end)

    def _run(self, job: Job) -> End:
        count = 0

        def end(finish: Finish) -> End:
            return End(finish, len(job.tokens), count)

        if not self._read_prompt(job):
            return end("cancelled")
        text = _Text(job.request.stop)
        for token in self._tokens(job):
            if token is None:
                for piece in text.flush():
                    job.emit(Piece(piece))
                return end("stop")
            count += 1
            for piece in text.add(self._bytes(token)):
                job.emit(Piece(piece))
            if text.stopped:
                return end("stop")
            if job.cancelled:
                return end("cancelled")
            if count >= job.request.limit:
                break
        for piece in text.flush():
            job.emit(Piece(piece))
        return end("length")

    def _read_prompt(self, job: Job) -> bool:
        """Bring the context to the prompt's end, in steps. False if cancelled on the way."""
        llama = self._llama
        keep = _common(llama._input_ids.tolist(), job.tokens[:-1])
        keep = min(keep, len(self.tokenize(job.request.shared)) if job.request.shared else 0)
        with self._cores.turn():
            if keep == 0 or not llama._ctx.kv_cache_seq_rm(-1, keep, -1):
                llama.reset()
                llama._ctx.kv_cache_clear()
                keep = 0
            llama.n_tokens = keep
        for start in range(keep, len(job.tokens), STEP_TOKENS):
            if job.cancelled:
                return False
            with self._cores.turn():
                llama.eval(job.tokens[start : start + STEP_TOKENS])
        return not job.cancelled

    def _tokens(self, job: Job) -> Iterator[int | None]:
        """Tokens as they are sampled; None where the model ends its answer."""
        llama, sampling = self._llama, job.request.sampling
        llama.set_seed(sampling.seed)
        stream = llama.generate(
            job.tokens,  # all of it is in the context already: sampling starts at once
            temp=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repeat_penalty=sampling.repeat_penalty,
        )
        while True:
            with self._cores.turn():
                token = next(stream)
            if self._api.llama_vocab_is_eog(self._vocab, token):
                yield None
                return
            yield token

    def _bytes(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)  # the longest piece of a vocabulary is shorter
        size = self._api.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
        return buffer.raw[: max(size, 0)]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


class _Text:
    """Bytes in, whole characters out, nothing from a stop string on."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [s for s in stop if s]
        self._held = ""
        self.stopped = False

    def add(self, data: bytes) -> Iterator[str]:
        self._held += self._decoder.decode(data)
        found = [at for s in self._stop if (at := self._held.find(s)) >= 0]
        if found:
            self._held = self._held[: min(found)]
            self.stopped = True
            yield from self.flush()
            return
        keep = max((_overlap(self._held, s) for s in self._stop), default=0)
        ready, self._held = (
            self._held[: len(self._held) - keep],
            self._held[len(self._held) - keep :],
        )
        if ready:
            yield ready

    def flush(self) -> Iterator[str]:
        rest = self._held + ("" if self.stopped else self._decoder.decode(b"", final=True))
        self._held = ""
        if rest:
            yield rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
