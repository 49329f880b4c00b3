"""llama.cpp by its low-level bindings: one model, one context, many sequences.

Everything here runs in the native child. Only the engine's thread may decode, sample or touch
sequences; `tokenize` may be called from any thread.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.errors import BadRequest, SettingsError
from appliance.inference.work import Entry, NoRoom, Sampling

Logits = NDArray[np.float32]  # (n_vocab,)

_LARGEST_PIECE = 256  # bytes; the longest piece of a vocabulary is shorter
_DRY_BREAKERS = ("\n", "。", "、", ":", '"')
_PENALTY_WINDOW = 256  # tokens that repetition penalties look back


class Llama:
    """Raises SettingsError if the model cannot be loaded. Paths were verified.

    `slots` of its `sequences` run; `prefill_tokens` of them at most are read in a context of their
    own (0: there is none).
    """

    def __init__(
        self,
        path: Path,
        adapters: Sequence[Path] = (),
        *,
        context_tokens: int,
        sequences: int,
        slots: int,
        batch_tokens: int,
        outputs: int,
        prefill_tokens: int = 0,
        threads: int = 0,
        gpu_layers: int = 0,
    ) -> None:
        import llama_cpp

        self.api: Any = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(_ignore)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = gpu_layers
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        if not self._model:
            raise SettingsError(f"llama.cpp が {path.name} を読み込めません。")
        lora = self._loaded(adapters)
        sizes = {"batch_tokens": batch_tokens, "threads": threads or os.cpu_count() or 1}
        self._main = _Context(
            llama_cpp, self._model, lora, context_tokens, sequences, outputs, **sizes
        )
        self._prefill: _Context | None = None
        if prefill_tokens:
            self._prefill = _Context(
                llama_cpp, self._model, lora, prefill_tokens, slots, 1, **sizes
            )
        self._last = self._main  # whose outputs are read
        self.vocab: Any = llama_cpp.llama_model_get_vocab(self._model)
        self.words = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.context_tokens = self._main.tokens
        self.prefill_tokens = self._prefill.tokens if self._prefill else 0
        self.batch_tokens = batch_tokens
        # On a CPU llama.cpp's attention works on tiles of 64 tokens, and computes for each what any
        # sequence in it holds. With eight readers, batches of both kinds gave 17.6 tokens/s on two
        # cores, batches apart 22.6.
        self.apart = not gpu_layers
        # Steps of 1, 2, 4, 8 and 16 streams took 31, 50, 62, 90 and 142 ms on two cores: that is
        # the tokens and six more. On a GPU not measured; memory is its limit for dozens of tokens.
        self.step_cost = 64.0 if gpu_layers else 6.0
        self.end_tokens = self._ending()
        self._end_set = frozenset(self.end_tokens)

    def close(self) -> None:
        for context in filter(None, (self._prefill, self._main)):
            context.close()
        self.api.llama_model_free(self._model)

    def _ending(self) -> list[int]:
        """The tokens that end an answer.

        llama_cpp's functions let other threads run at every call: asked of 262,144 tokens while one
        imports, that took five seconds. This one keeps the interpreter, and takes a fifth of one.
        """
        library = ctypes.PyDLL(self.api.llama_cpp._lib._name)
        ends = library.llama_vocab_is_eog
        ends.argtypes, ends.restype = [ctypes.c_void_p, ctypes.c_int32], ctypes.c_bool
        vocab = ctypes.c_void_p(self.vocab)
        return [token for token in range(self.words) if ends(vocab, token)]

    def _loaded(self, adapters: Sequence[Path]) -> list[Any]:
        loaded = []
        for path in adapters:
            adapter = self.api.llama_adapter_lora_init(self._model, str(path).encode())
            if not adapter:
                raise SettingsError(f"アダプター {path.name} はモデルに合いません。")
            loaded.append(adapter)
        return loaded

    # --- text ------------------------------------------------------------------

    def tokenize(self, text: str, *, begin: bool = True, special: bool = False) -> list[int]:
        """Special tokens in the text stay text unless `special`: nobody can forge a role."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        buffer = (ctypes.c_int32 * size)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), buffer, size, begin, special)
        if count < 0:
            buffer = (ctypes.c_int32 * -count)()
            count = self.api.llama_tokenize(
                self.vocab, data, len(data), buffer, -count, begin, special
            )
        return buffer[:count]

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(_LARGEST_PIECE)
        size = self.api.llama_token_to_piece(self.vocab, token, buffer, _LARGEST_PIECE, 0, False)
        return buffer.raw[: max(size, 0)]

    def ends(self, token: int) -> bool:
        return token in self._end_set

    # --- sequences -------------------------------------------------------------

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        self._main.copy(source, target, start, end)

    def remove(self, sequence: int, start: int) -> None:
        self._main.remove(sequence, start)

    def clear(self) -> None:
        for context in filter(None, (self._prefill, self._main)):
            context.clear()

    def to_prefill(self, sequence: int, end: int) -> None:
        """Give the prefill context the sequence's first `end` tokens, to read on from there."""
        assert self._prefill
        self._main.give(self._prefill, sequence, 0, end)

    def from_prefill(self, sequence: int, start: int, end: int) -> None:
        """Bring what was read there; it is forgotten there."""
        assert self._prefill
        self._prefill.give(self._main, sequence, start, end)
        self._prefill.remove(sequence, 0)

    def decode(self, entries: Sequence[Entry], *, prefill: bool = False) -> None:
        """Compute one batch. Raises NoRoom, RuntimeError."""
        context = self._prefill if prefill else self._main
        assert context
        self._last = context
        context.decode(entries)

    def logits(self, entry: int) -> Logits:
        """Of the batch's n-th entry, which was `wanted`. Valid, and writable, until `decode`."""
        return self._last.logits(entry, self.words)

    def sampler(self, sampling: Sampling) -> Sampler:
        """Raises BadRequest if the grammar or the schema is none."""
        return Sampler(self, sampling)


class _Context:
    """A context of llama.cpp: `sequences` that hold `tokens` cells together.

    In a model with a sliding window llama.cpp takes back, unasked, what one sequence alone holds
    and no longer sees; a prefix would lose its middle. So two sequences hold every cell. One more
    carries cells from one context to another.
    """

    def __init__(
        self,
        api: Any,
        model: Any,
        adapters: Sequence[Any],
        tokens: int,
        sequences: int,
        outputs: int,
        *,
        batch_tokens: int,
        threads: int,
    ) -> None:
        self._api = api
        self._window = int(api.llama_model_n_swa(model))
        twin = sequences if self._window else 0
        self._offsets = (0, twin) if twin else (0,)
        self._carrier = sequences + twin
        params = api.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_seq_max = self._carrier + 1
        params.n_outputs_max = max(outputs, params.n_seq_max)  # or llama.cpp gives up
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.swa_full = True  # a window that forgets cannot share prefixes
        params.no_perf = True
        self._context = api.llama_init_from_model(model, params)
        if not self._context:
            raise SettingsError(
                f"no memory for a context of {tokens} tokens; lower KURA_CONTEXT_TOKENS"
            )
        if adapters:
            array = (api.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
            scales = (ctypes.c_float * len(adapters))(*[1.0] * len(adapters))
            if api.llama_set_adapters_lora(self._context, array, len(adapters), scales):
                raise SettingsError("アダプターを当てられません。")
        self._memory = api.llama_get_memory(self._context)
        self.tokens = int(api.llama_n_ctx(self._context))
        self._batch = _Batch(api, batch_tokens, self._offsets)

    def close(self) -> None:
        self._api.llama_free(self._context)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        for offset in self._offsets:
            self._api.llama_memory_seq_cp(self._memory, source, target + offset, start, end)

    def remove(self, sequence: int, start: int) -> None:
        for offset in self._offsets:
            self._api.llama_memory_seq_rm(self._memory, sequence + offset, start, -1)

    def clear(self) -> None:
        self._api.llama_memory_clear(self._memory, False)

    def give(self, other: _Context, sequence: int, start: int, end: int) -> None:
        """Have the other context hold this sequence's cells too, from `start` to `end`.

        llama.cpp leaves out what lies further back than the window of what it hands over, so that
        is never more than one window. Raises RuntimeError if the other has no room.
        """
        size = self._window or end
        while start < end:
            until = min(end, (start // size + 1) * size)
            other.receive(self._saved(sequence, start, until), sequence, start, until)
            start = until

    def _saved(self, sequence: int, start: int, end: int) -> NDArray[np.uint8]:
        api, carrier = self._api, self._carrier
        api.llama_memory_seq_cp(self._memory, sequence, carrier, start, end)
        data = np.empty(api.llama_state_seq_get_size(self._context, carrier), np.uint8)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = api.llama_state_seq_get_data(self._context, pointer, len(data), carrier)
        api.llama_memory_seq_rm(self._memory, carrier, 0, -1)
        if written != len(data):
            raise RuntimeError(f"llama.cpp saved {written} of {len(data)} bytes")
        return data

    def receive(self, data: NDArray[np.uint8], sequence: int, start: int, end: int) -> None:
        api, carrier = self._api, self._carrier
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        read = api.llama_state_seq_set_data(self._context, pointer, len(data), carrier)
        held = api.llama_memory_seq_pos_min(self._memory, carrier)
        if not read or held != start:
            raise RuntimeError(f"llama.cpp took cells from {held} on instead of {start}")
        self.copy(carrier, sequence, start, end)
        api.llama_memory_seq_rm(self._memory, carrier, 0, -1)

    def decode(self, entries: Sequence[Entry]) -> None:
        self._batch.fill(entries)
        status = self._api.llama_decode(self._context, self._batch.struct)
        if status == 1:
            raise NoRoom
        if status != 0:
            raise RuntimeError(f"llama_decode failed with {status}")

    def logits(self, entry: int, words: int) -> Logits:
        pointer = self._api.llama_get_logits_ith(self._context, entry)
        return np.ctypeslib.as_array(pointer, (words,))


class _Batch:
    """The arrays of a llama_batch, made once and filled by slices. Each token goes to the sequences
    that lie `offsets` from its own."""

    def __init__(self, api: Any, size: int, offsets: Sequence[int]) -> None:
        holders = len(offsets)
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._counts = np.full(size, holders, np.int32)
        self._sequences = np.zeros((size, holders), np.int32)
        self._offsets = np.array(offsets, np.int32)
        self._wanted = np.zeros(size, np.int8)
        int32 = ctypes.POINTER(ctypes.c_int32)
        base, row = self._sequences.ctypes.data, self._sequences.strides[0]
        self._rows = (int32 * size)(*[ctypes.cast(base + row * n, int32) for n in range(size)])
        self.struct = api.llama_batch()
        self.struct.token = self._tokens.ctypes.data_as(int32)
        self.struct.pos = self._positions.ctypes.data_as(int32)
        self.struct.n_seq_id = self._counts.ctypes.data_as(int32)
        self.struct.seq_id = ctypes.cast(self._rows, ctypes.POINTER(int32))
        self.struct.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, entries: Sequence[Entry]) -> None:
        n = len(entries)
        self._tokens[:n] = [e.token for e in entries]
        self._positions[:n] = [e.position for e in entries]
        sequences = np.array([e.sequence for e in entries], np.int32)
        self._sequences[:n] = sequences[:, None] + self._offsets
        self._wanted[:n] = [e.wanted for e in entries]
        self.struct.n_tokens = n


_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)


class Sampler:
    """Chooses tokens for one request, and remembers what was chosen. Free it with `close`."""

    def __init__(self, llama: Llama, sampling: Sampling) -> None:
        self._llama = llama
        self._api = llama.api
        self.sampling = sampling
        self._chain: Any = None
        self._grammar: Any = None
        self._candidates: NDArray[Any] | None = None
        if sampling.grammar:
            self._grammar = self._api.llama_sampler_init_grammar(
                llama.vocab, sampling.grammar.encode(), b"root"
            )
            if not self._grammar:
                raise BadRequest("the grammar is not valid GBNF with a rule called root")
        if not sampling.plain:
            self._chain = self._make_chain()

    def close(self) -> None:
        for part in (self._chain, self._grammar):
            if part:
                self._api.llama_sampler_free(part)
        self._chain = self._grammar = None

    def choose(self, logits: Logits) -> int:
        """The next token. `accept` it before choosing another."""
        sampling = self.sampling
        for token, bias in sampling.logit_bias.items():
            if 0 <= token < len(logits):
                logits[token] += bias
        if sampling.ignore_eos:
            logits[self._llama.end_tokens] = -np.inf
        token = self._pick(logits)
        if self._grammar and not self._allowed(token):
            token = self._pick(self._constrained(logits))
        return token

    def accept(self, token: int) -> None:
        if self._chain:
            self._api.llama_sampler_accept(self._chain, token)
        if self._grammar:
            self._api.llama_sampler_accept(self._grammar, token)

    def alternatives(self, logits: Logits, token: int) -> tuple[float, list[tuple[int, float]]]:
        """The token's log-probability by the model, and those of the likeliest."""
        top = float(logits.max())
        total = top + float(np.log(np.exp(logits - top, dtype=np.float64).sum()))
        count = self.sampling.logprobs
        likeliest: list[tuple[int, float]] = []
        if count > 0:
            best = np.argpartition(logits, -count)[-count:]
            best = best[np.argsort(-logits[best], kind="stable")]
            likeliest = [(int(t), float(logits[t]) - total) for t in best]
        return float(logits[token]) - total, likeliest

    def _pick(self, logits: Logits) -> int:
        if not self._chain:
            return int(logits.argmax())
        return self._applied(self._chain, self._table(logits))

    def _table(self, logits: Logits) -> NDArray[Any]:
        if self._candidates is None:
            self._candidates = np.zeros(len(logits), _CANDIDATE)
        table = self._candidates
        table["id"] = np.arange(len(logits), dtype=np.int32)
        table["logit"] = logits
        table["p"] = 0
        return table

    def _array(self, table: NDArray[Any]) -> Any:
        data = ctypes.cast(table.ctypes.data, ctypes.POINTER(self._api.llama_token_data))
        return self._api.llama_token_data_array(
            data=data, size=len(table), selected=-1, sorted=False
        )

    def _applied(self, sampler: Any, table: NDArray[Any]) -> int:
        array = self._array(table)
        self._api.llama_sampler_apply(sampler, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _allowed(self, token: int) -> bool:
        one = np.zeros(1, _CANDIDATE)
        one["id"], one["logit"] = token, 1.0
        self._api.llama_sampler_apply(self._grammar, ctypes.byref(self._array(one)))
        return bool(one["logit"][0] > -np.inf)

    def _constrained(self, logits: Logits) -> Logits:
        table = self._table(logits)
        self._api.llama_sampler_apply(self._grammar, ctypes.byref(self._array(table)))
        out = np.empty_like(logits)
        out[table["id"]] = table["logit"]
        return out

    def _make_chain(self) -> Any:
        api, s = self._api, self.sampling
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if s.repeat_penalty != 1 or s.frequency_penalty or s.presence_penalty:
            penalties = api.llama_sampler_init_penalties(
                self._llama.words,
                _PENALTY_WINDOW,
                s.repeat_penalty,
                s.frequency_penalty,
                s.presence_penalty,
            )
            api.llama_sampler_chain_add(chain, penalties)
        if s.dry_multiplier:
            breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*[b.encode() for b in _DRY_BREAKERS])
            dry = api.llama_sampler_init_dry(
                self._llama.vocab,
                s.dry_multiplier,
                s.dry_base,
                s.dry_allowed_length,
                _PENALTY_WINDOW,
                breakers,
                len(_DRY_BREAKERS),
            )
            api.llama_sampler_chain_add(chain, dry)
        if s.temperature == 0:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_greedy())
            return chain
        if s.top_k:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_k(s.top_k))
        if s.top_p < 1:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_p(s.top_p, 1))
        if s.min_p:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_min_p(s.min_p, 1))
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_temp(s.temperature))
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_dist(s.seed))
        return chain


def grammar_of(schema: str) -> str:
    """A JSON schema as GBNF. Raises BadRequest."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        json.loads(schema)
        return str(json_schema_to_gbnf(schema))
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise BadRequest(f"the JSON schema cannot be used: {error}") from None
    except (RecursionError, NotImplementedError):
        raise BadRequest("the JSON schema is too deep, or uses what is not known here") from None


def _ignore(level: int, text: bytes, user_data: Any) -> None:
    """llama.cpp's own log lines are not Kura's."""
