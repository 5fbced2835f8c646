"""The engine's rules: bitwise sameness on one ISA, what it refuses, and what it leaves behind."""

import _thread
import gc
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import make_decoder, make_tensors, pack

from bitnet_py import _core

ISAS = _core.available_isas()
TINY_DECODER = make_decoder(
    vocab_size=97,
    intermediate_size=172,  # not a multiple of 8: padding is in play
    num_attention_heads=8,
    head_dim=8,
    max_position_embeddings=640,
    tie_word_embeddings=True,
)
FORMATS = [
    ("ternary2", "tensor"),
    ("ternary2", "row"),
    ("ternary2", "group"),
    ("trits5", "row"),
    ("trits5", "group"),
    ("int8", "row"),
    ("int6", "group"),
    ("f32", "none"),
    ("f16", "none"),
    ("bf16", "none"),
]
IDS = np.random.default_rng(7).integers(0, 97, 300).astype(np.int32)


def tiny_tensors(decoder: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Ternary linears with an int8 table, unless the options say otherwise."""
    return make_tensors(decoder, **{"embedding": "int8"} | options)


def tiny_core_model(
    decoder: dict[str, Any] = TINY_DECODER, *, isa: str = "", threads: int = 1, **options: Any
) -> _core.Model:
    return _core.Model(decoder, tiny_tensors(decoder, **options), isa=isa, threads=threads)


def logits_of(model: _core.Model, ids: np.ndarray, *cuts: int, kv: str = "f16") -> np.ndarray:
    """All logits, the ids fed in pieces that end at the cuts."""
    session = _core.Session(model, 640, kv)
    return np.concatenate([session.forward(part, "all") for part in np.split(ids, cuts)])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("linear", "scale_kind"), FORMATS)
@pytest.mark.parametrize("kv", _core.KV_DTYPES)
def test_logits_depend_on_neither_pieces_nor_threads_nor_batch(
    isa: str, linear: str, scale_kind: str, kv: str
) -> None:
    head = linear if linear not in ("ternary2", "trits5") else "int8"
    options = {"isa": isa, "linear": linear, "scale": scale_kind, "embedding": head}
    model = tiny_core_model(threads=1, **options)
    whole = logits_of(model, IDS, kv=kv)
    assert np.isfinite(whole).all()
    token_by_token = logits_of(model, IDS, *range(1, len(IDS)), kv=kv)
    np.testing.assert_array_equal(token_by_token, whole)
    np.testing.assert_array_equal(logits_of(model, IDS, 1, 2, 66, 255, 256, 257, kv=kv), whole)
    for threads in (2, 5):
        other = tiny_core_model(threads=threads, **options)
        np.testing.assert_array_equal(logits_of(other, IDS, 5, kv=kv), whole)

    # Three different sequences of unequal length in one batch, the long one between others.
    sessions = [_core.Session(model, 640, kv) for _ in range(3)]
    parts = [IDS[200:240], IDS, IDS[250:253]]
    alone = [logits_of(model, part, kv=kv) for part in parts]
    batch = _core.forward_batch(sessions, parts, "all")
    np.testing.assert_array_equal(batch, np.concatenate(alone))
    more = [IDS[240:241], IDS[253:255]]
    last = _core.forward_batch([sessions[0], sessions[2]], more, "last")
    longer = [logits_of(model, ids, kv=kv)[-1] for ids in (IDS[200:241], IDS[250:255])]
    np.testing.assert_array_equal(last, longer)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("scale_kind", ["tensor", "row", "group"])
def test_trits5_gives_the_bits_of_ternary2(isa: str, scale_kind: str) -> None:
    """Multiplied as stored, or expanded when the model is built: also as embedding and head."""
    logits = {}
    for linear in ("ternary2", "trits5"):
        model = tiny_core_model(isa=isa, threads=2, linear=linear, scale=scale_kind)
        tables = tiny_core_model(isa=isa, linear=linear, scale=scale_kind, embedding=linear)
        logits[linear] = [logits_of(model, IDS, 290, 291), logits_of(tables, IDS[:40], 30, 31)]
    for dense, packed in zip(logits["ternary2"], logits["trits5"], strict=True):
        np.testing.assert_array_equal(packed, dense)


def test_whoever_holds_expanded_tensors_is_told_their_names() -> None:
    decoder = TINY_DECODER
    tensors = tiny_tensors(decoder, linear="trits5")
    linears = {name for name, tensor in tensors.items() if tensor.format == "trits5"}
    for isa in ISAS:
        told: list[str] = []
        _core.Model(decoder, tensors, isa=isa, on_expanded=told.append)
        is_multiplied = "trits5" in _core.Kernels(isa).products
        assert sorted(told) == ([] if is_multiplied else sorted(linears))


@pytest.mark.parametrize("isa", ISAS)
def test_threads_share_single_tokens_of_a_wide_model(isa: str) -> None:
    """Small products stay on one thread; these are wide enough to be dealt out token by token."""
    decoder = TINY_DECODER | {"hidden_size": 512, "intermediate_size": 1032, "head_dim": 64}
    tensors = tiny_tensors(decoder)
    outputs = []
    for threads in (1, 2, 5):
        model = _core.Model(decoder, tensors, isa=isa, threads=threads)
        outputs.append(logits_of(model, IDS[:70], *range(60, 70)))
    np.testing.assert_array_equal(outputs[1], outputs[0])
    np.testing.assert_array_equal(outputs[2], outputs[0])


def test_more_rows_than_one_pass_holds() -> None:
    """600 tokens go through the layers in slices; the last row is asked for across the border."""
    model = tiny_core_model()
    ids = np.resize(IDS, 600)
    whole = logits_of(model, ids)
    session = _core.Session(model, 640)
    np.testing.assert_array_equal(session.forward(ids, "last"), whole[-1:])
    assert session.length == 600


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "relu2", "attn_sub_norm": True, "ffn_sub_norm": True},
        {"attention_bias": True, "attention_output_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": False, "num_key_value_heads": 8},
        {"rope_type": "linear", "rope_factor": 4.0},
        {
            "rope_type": "llama3",
            "rope_factor": 8.0,
            "rope_original_max_position_embeddings": 64,
        },
    ],
)
def test_every_config_field_matters_and_keeps_the_rules(change: dict[str, Any]) -> None:
    decoder = TINY_DECODER | change
    model = tiny_core_model(decoder)
    whole = logits_of(model, IDS[:80])
    np.testing.assert_array_equal(logits_of(model, IDS[:80], 1, 7), whole)
    if change.keys() <= {"rope_type", "rope_factor", "rope_original_max_position_embeddings"}:
        assert not np.array_equal(whole, logits_of(tiny_core_model(), IDS[:80]))


def test_truncate_forgets_and_only_that() -> None:
    model = tiny_core_model()
    session = _core.Session(model, 64)
    session.forward(IDS[:30], "none")
    session.truncate(10)
    assert session.length == 10
    np.testing.assert_array_equal(
        session.forward(IDS[10:20], "all"), logits_of(model, IDS[:20])[10:]
    )
    with pytest.raises(ValueError, match=r"length in \[0, 20\], got 21"):
        session.truncate(21)


@pytest.mark.parametrize("kv", _core.KV_DTYPES)
def test_exported_cache_goes_on_where_it_stopped(kv: str) -> None:
    model = tiny_core_model()
    first = _core.Session(model, 64, kv)
    first.forward(IDS[:30], "none")
    k, v = first.export_kv()
    second = _core.Session(model, 40, kv)
    second.import_kv(k, v)
    np.testing.assert_array_equal(second.forward(IDS[30:35]), first.forward(IDS[30:35]))
    with pytest.raises(ValueError, match="at most 20 tokens, got 30"):
        _core.Session(model, 20, kv).import_kv(k, v)
    with pytest.raises(ValueError, match="expected k of shape"):
        _core.Session(model, 40, "f32" if kv == "f16" else "f16").import_kv(k, v)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "at least one token"),
        ([97], r"ids in \[0, 97\), got 97"),
        ([-1], "got -1"),
        ([2**40], "sequence of ints"),
        (["a"], "sequence of ints"),
        (np.zeros(3), "dtype int32"),
        (np.zeros((1, 1), np.int32), "1 dimensions"),
        (list(range(17)), "the context is full"),
    ],
)
def test_bad_calls_change_nothing(ids: Any, message: str) -> None:
    session = _core.Session(tiny_core_model(), 16)
    with pytest.raises(ValueError, match=message):
        session.forward(ids)
    assert session.length == 0


def test_a_batch_is_checked_before_it_runs() -> None:
    model = tiny_core_model()
    a, b = _core.Session(model, 8), _core.Session(model, 8)
    with pytest.raises(ValueError, match="each session once"):
        _core.forward_batch([a, a], [[1], [2]])
    with pytest.raises(ValueError, match="one model"):
        _core.forward_batch([a, _core.Session(tiny_core_model(), 8)], [[1], [2]])
    with pytest.raises(ValueError, match="2 sessions and 1 lists"):
        _core.forward_batch([a, b], [[1]])
    with pytest.raises(ValueError, match="one of none, last, all"):
        _core.forward_batch([a], [[1]], "some")
    assert a.length == b.length == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"vocab_size": 2**60}, "vocab_size"),
        ({"head_dim": 7}, "even head_dim"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"hidden_act": "swish"}, "one of silu, relu2, gelu_tanh, got 'swish'"),
        ({"rope_type": "yarn"}, "one of default, linear, llama3"),
        ({"hidden_size": "64"}, "field 'hidden_size' of another type"),
        ({"mlp_bias": 1}, "field 'mlp_bias' of another type"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"rope_type": "llama3", "rope_high_freq_factor": 1.0}, "above rope_low_freq_factor"),
        ({"intermediate_size": 2**17 + 1}, "of at most 131072, got 131073"),
    ],
)
def test_a_config_is_refused_by_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.tensor_specs(TINY_DECODER | change)


def test_a_missing_config_field_is_named() -> None:
    decoder = {k: v for k, v in TINY_DECODER.items() if k != "vocab_size"}
    with pytest.raises(ValueError, match="missing field 'vocab_size'"):
        _core.tensor_specs(decoder)


def test_config_fields_are_the_defaults() -> None:
    fields = _core.config_fields()
    assert fields["vocab_size"] is None
    assert fields["hidden_act"] == "silu"
    assert tiny_core_model().config == fields | TINY_DECODER


Q = "model.layers.1.self_attn.q_proj.weight"
HEAD = "model.embed_tokens.weight"
NORM = "model.norm.weight"


def broken(name: str, **fields: Any) -> dict[str, Any]:
    """Tensors of the tiny model with one of them changed."""
    tensors = tiny_tensors(TINY_DECODER)
    tensors[name] = tuple(_core.PackedTensor(*tensors[name])._replace(**fields))
    return tensors


def changed(array: np.ndarray, index: int, value: float) -> np.ndarray:
    copy = array.copy()
    copy.reshape(-1)[index] = value
    return copy


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, 81, "got no code at byte 0"),
        (130, 252, "got no code at byte 130"),
        # 64 columns are three quintets of 128 bytes and one tile left over.
        (3 * 128 + 1, 0b11010101, "got no code at byte 385"),
        (416 + 383, 255, "got no code at byte 799"),
    ],
)
def test_bytes_that_are_no_trits_are_refused(
    isa: str, index: int, value: int, message: str
) -> None:
    tensors = tiny_tensors(TINY_DECODER, linear="trits5")
    q = tensors[Q]
    tensors[Q] = q._replace(data=changed(q.data, index, value))
    with pytest.raises(ValueError, match=f"'{Q}': expected codes 0, 1, 2, {message}"):
        _core.Model(TINY_DECODER, tensors, isa=isa, threads=2)
    _core.Model(TINY_DECODER, tensors, isa=isa, validate=False)


@pytest.mark.parametrize("isa", ISAS)
def test_padding_of_trits5_is_looked_at(isa: str) -> None:
    down = "model.layers.0.mlp.down_proj.weight"  # 172 columns: four of padding
    tensors = tiny_tensors(TINY_DECODER, linear="trits5")
    data = tensors[down].data
    assert data.shape == (2, 8 * 4 + 4, 32)
    assert data[0, -1, 0] == 0b01010101
    tensors[down] = tensors[down]._replace(data=changed(data, 36 * 32 - 1, 0b01010100))
    with pytest.raises(ValueError, match=f"'{down}': expected code 1 in padding at byte 1151"):
        _core.Model(TINY_DECODER, tensors, isa=isa)


GOOD = {name: _core.PackedTensor(*value) for name, value in tiny_tensors(TINY_DECODER).items()}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({k: v for k, v in GOOD.items() if k != Q}, f"missing tensor '{Q}'"),
        (GOOD | {"extra.weight": GOOD[NORM]}, "unexpected tensor 'extra.weight'"),
        (broken(Q, data=GOOD[Q].data[:1].copy()), f"'{Q}': expected 1024 bytes"),
        (broken(Q, data=changed(GOOD[Q].data, 5, 3)), f"'{Q}': expected codes 0, 1, 2, got 3"),
        (broken(Q, scale=None), f"'{Q}': expected 1 scales, got 0"),
        (broken(Q, scale=np.full(1, np.nan, np.float32)), f"{Q}_scale': expected finite"),
        (broken(Q, scale=np.full(1, -1, np.float32)), "at least 0, got -1"),
        (broken(Q, scale=np.ones(1)), "scale of dtype float32, got float64"),
        (broken(Q, scale=np.ones(1, np.float16)), "only group scales may be float16"),
        (broken(Q, scale_kind="none"), "does not take a scale per 'none'"),
        (broken(Q, scale_kind="column"), "one of none, tensor, row, group"),
        (broken(Q, format="ternary9"), "got 'ternary9'"),
        (broken(Q, data=GOOD[Q].data.astype(np.int8)), "data of dtype uint8, got int8"),
        (
            broken(HEAD, format="bf16", data=np.ones((97, 64), np.float16)),
            "dtype uint16, got float16",
        ),
        (broken(HEAD, format="f16", data=np.ones((97, 64), ">f2")), "dtype float16, got >f2"),
        (GOOD | {Q: 5}, r"expected \(format, data, scale, scale kind\)"),
        (GOOD | {Q: (5, GOOD[Q].data, None, "none")}, r"expected \(format, data, scale"),
        (broken(NORM, data=changed(GOOD[NORM].data, 7, np.nan)), "expected finite f32 values"),
        (
            broken(
                HEAD,
                format="f32",
                scale_kind="none",
                scale=None,
                data=np.full((97, 64), np.inf, np.float32),
            ),
            "expected finite f32 values",
        ),
        (broken(Q, data=GOOD[Q].data[:, ::2]), "C-contiguous"),
        (broken(NORM, format="f16", data=np.ones(64, np.float16)), "expected f32"),
        (broken(HEAD, scale_kind="tensor"), "int8 does not take a scale per 'tensor'"),
        (broken(HEAD, data=changed(GOOD[HEAD].data, 3, 0x80)), r"codes in \[-127, 127\]"),
        (broken(HEAD, scale=changed(GOOD[HEAD].scale, -1, 1)), "expected 0 in padded rows, got 1"),
    ],
)
def test_broken_tensors_are_refused_by_name_and_rule(tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Model(TINY_DECODER, tensors)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("isa", ISAS)
def test_unvalidated_garbage_does_not_crash(isa: str, seed: int) -> None:
    """Kernels stay inside their arrays whatever the bytes say; the logits may be anything."""
    rng = np.random.default_rng(seed)
    tensors = tiny_tensors(TINY_DECODER, scale="group")
    for name, (format, data, scale, kind) in tensors.items():
        noise = rng.integers(0, 256, data.nbytes, np.uint8).view(data.dtype).reshape(data.shape)
        if scale is not None:
            raw = rng.integers(0, 256, scale.nbytes, np.uint8)
            scale = raw.view(scale.dtype).reshape(scale.shape)
        tensors[name] = (format, noise, scale, kind)
    model = _core.Model(TINY_DECODER, tensors, isa=isa, threads=2, validate=False)
    assert _core.Session(model, 32).forward(IDS[:32], "all").shape == (32, 97)


@pytest.mark.parametrize("threads", [-1, 1025, 2**30])
def test_a_number_of_threads_is_checked_before_they_start(threads: int) -> None:
    with pytest.raises(ValueError, match=rf"threads in \[1, 1024\], got {threads}"):
        tiny_core_model(threads=threads)
    with pytest.raises(ValueError, match="threads in"):
        _core.Kernels("generic", threads)


def test_a_nan_that_was_not_looked_for_shows_in_the_logits() -> None:
    """The rounding to int8 must not turn it into a number."""
    tensors = tiny_tensors(TINY_DECODER)
    name = "model.layers.0.input_layernorm.weight"
    format, data, scale, kind = tensors[name]
    tensors[name] = (format, changed(data, 3, np.nan), scale, kind)
    model = _core.Model(TINY_DECODER, tensors, validate=False)
    logits = _core.Session(model, 8).forward([1, 2])
    assert np.isnan(logits).all()
    with pytest.raises(ValueError, match="the weights are broken"):
        _core.Sampler().sample(logits[0], np.zeros(0, np.int32))


def test_the_model_keeps_its_arrays_alive() -> None:
    tensors = tiny_tensors(TINY_DECODER)
    model = _core.Model(TINY_DECODER, tensors)
    before = _core.Session(model, 8).forward([1, 2, 3])
    tensors.clear()
    gc.collect()
    noise = [np.full(5000, 255, np.uint8) for _ in range(200)]
    np.testing.assert_array_equal(_core.Session(model, 8).forward([1, 2, 3]), before)
    assert len(noise) == 200


def test_threads_that_share_a_session_never_overfill_it() -> None:
    session = _core.Session(tiny_core_model(threads=2), 40)
    refused = []

    def append() -> None:
        try:
            session.forward(IDS[:9], "none")
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=append) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.length == 36
    assert len(refused) == 4
    assert all("the context is full" in text for text in refused)


def test_a_cache_that_no_machine_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a smaller max_seq_len"):
        _core.Session(tiny_core_model(TINY_DECODER | {"head_dim": 4096}), 2**31, "f32")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_fork_computes_alone_and_ends() -> None:
    decoder = TINY_DECODER | {"hidden_size": 512, "intermediate_size": 1032, "head_dim": 64}
    model = tiny_core_model(decoder, threads=3)
    expected = _core.Session(model, 8).forward([1, 2, 3])
    program = textwrap.dedent("""
        import os, sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        from bitnet_py import _core
        from test_engine import TINY_DECODER, tiny_core_model
        decoder = TINY_DECODER | {"hidden_size": 512, "intermediate_size": 1032, "head_dim": 64}
        model = tiny_core_model(decoder, threads=3)
        want = _core.Session(model, 8).forward([1, 2, 3])
        for _ in range(8):
            _core.Session(model, 8).forward([1, 2, 3])
            child = os.fork()
            if child == 0:
                same = np.array_equal(_core.Session(model, 8).forward([1, 2, 3]), want)
                del model
                os._exit(0 if same else 1)
            assert os.waitpid(child, 0)[1] == 0
        np.save(sys.argv[2], want)
    """)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits.npy"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            program,
            str(Path(__file__).parent),
            str(out),
        ]
        subprocess.run(command, check=True, timeout=60)
        np.testing.assert_array_equal(np.load(out), expected)


def test_code_padding_is_checked() -> None:
    decoder = TINY_DECODER | {"hidden_size": 60, "head_dim": 8}
    tensors = tiny_tensors(decoder)
    format, data, scale, kind = tensors[Q]
    # Column 60 of row 0 lies in tile 15, byte 0; K is padded from 60 to 64.
    tensors[Q] = (format, changed(data, 15 * 32, 0x00), scale, kind)
    with pytest.raises(ValueError, match="expected code 1 in padding"):
        _core.Model(decoder, tensors)


def test_embedding_rows_of_every_format_agree_with_their_values() -> None:
    """A model without layers' influence: the head reads what the embedding wrote."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=(97, 64)).astype(np.float32)
    base = _core.Session(tiny_core_model(embedding="f32"), 8).forward([5], "last")
    assert base.shape == (1, 97)
    outputs = []
    for format in ("f32", "f16", "bf16", "int8", "int6"):
        tensors = tiny_tensors(TINY_DECODER)
        tensors[HEAD] = pack(table, format, "row")
        model = _core.Model(TINY_DECODER, tensors)
        outputs.append(_core.Session(model, 8).forward([5])[0])
    for other in outputs[1:]:
        assert np.corrcoef(outputs[0], other)[0, 1] > 0.99


def test_an_int6_embedding_is_looked_up_exactly() -> None:
    """An embedding of int6 and one of the float32 values that it stands for: the same bits."""
    table = np.random.default_rng(3).normal(size=(97, 60)).astype(np.float32)
    decoder = TINY_DECODER | {"hidden_size": 60, "tie_word_embeddings": False}
    tensors = tiny_tensors(decoder)
    codes, scale = _core.quantize_int6_groups(table)
    values = codes * np.repeat(scale, 32, axis=1)[:, :60]
    name = "model.embed_tokens.weight"
    logits = []
    for weight in (pack(table, "int6", "group"), pack(values, "f32", "none")):
        model = _core.Model(decoder, tensors | {name: weight})
        logits.append(_core.Session(model, 200).forward(np.arange(97, dtype=np.int32), "all"))
    np.testing.assert_array_equal(*logits)


def test_int6_padding_is_looked_at() -> None:
    table = np.random.default_rng(3).normal(size=(97, 64)).astype(np.float32)
    good = pack(table, "int6", "group")
    tensors = tiny_tensors(TINY_DECODER) | {HEAD: good}
    _core.Model(TINY_DECODER, tensors)
    last_tile = good.data[3, 15]
    bad = good._replace(data=changed(good.data, -1, last_tile[-1] ^ 1))
    with pytest.raises(ValueError, match=r"expected code 32 in padding, in the tile at byte 6048"):
        _core.Model(TINY_DECODER, tensors | {HEAD: bad})
    bad = good._replace(scale=changed(good.scale, -1, 1))
    with pytest.raises(ValueError, match="expected 0 in padded rows, got 1"):
        _core.Model(TINY_DECODER, tensors | {HEAD: bad})
    assert good.scale[0, 0, 31] != 0  # of a row that is there


def test_ctrl_c_stops_a_long_call_and_keeps_the_session() -> None:
    decoder = TINY_DECODER | {
        "num_hidden_layers": 24,
        "intermediate_size": 2048,
        "max_position_embeddings": 4096,
    }
    session = _core.Session(tiny_core_model(decoder, isa="generic"), 4096)
    session.forward(IDS[:4], "none")
    threading.Timer(0.1, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        session.forward(np.resize(IDS, 4000), "none")  # seconds of work
    assert session.length == 4


def test_the_gil_is_free_while_the_engine_works() -> None:
    session = _core.Session(tiny_core_model(), 4096)
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=count)
    thread.start()
    before = ticks
    session.forward(np.resize(IDS, 3000), "none")
    after = ticks
    done.set()
    thread.join()
    assert after - before >= 3
