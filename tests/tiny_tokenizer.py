"""Small tokenizers of the three kinds that models come with, as folders have them."""

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CORPUS = (
    "the cat and the other animal went there to see what the weather was like",
    "once upon a time there was a little girl who liked to play with her friend",
    "another thing that they wanted then was water, and the rain gave them water",
)
NASTY_TEXTS = (
    "",
    " ",
    "  two  spaces  ",
    "a\n\nb\t c",
    "the cat. The CAT!",
    "caf\u00e9 na\u00efve \u20ac5",
    "\U0001f600 emoji \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u4f60\u597d\u4e16\u754c \u0645\u0631\u062d\u0628\u0627",
    "\u2581already marked",
    "nul \x00 and \ufffd",
    "12345 67.89e-10",
    "x" * 100,
)


def write_config(folder: Path, **fields: Any) -> None:
    """tokenizer_config.json with the special tokens and these fields."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL_TOKENS, **fields}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_byte_level(folder: Path) -> Path:
    """tokenizer.json as GPT-2 and Llama 3 have it: BPE on bytes, BOS by its own template."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _save(tokenizer, folder)


def write_metaspace(folder: Path) -> Path:
    """tokenizer.json as Llama 2 has it: words begin with a mark, unknown characters are bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted(set("".join(CORPUS)) - {" "} | set("\u2581THECAT!."))
    merges = []
    for word in ("\u2581the", "\u2581and", "er", "in", "\u2581water", "\u2581little"):
        for end in range(1, len(word)):
            if word[: end + 1] not in tokens:
                merges.append((word[:end], word[end]))
                tokens.append(word[: end + 1])
    vocab = {token: i for i, token in enumerate(tokens)}
    model = BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _save(tokenizer, folder)


def write_sentencepiece(folder: Path) -> Path:
    """tokenizer.model alone, as Llama 1 and 2 came first."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_config(folder, tokenizer_class="LlamaTokenizer")
    return folder


WRITERS = {
    "byte_level": write_byte_level,
    "metaspace": write_metaspace,
    "sentencepiece": write_sentencepiece,
}


def _save(tokenizer: Tokenizer, folder: Path) -> Path:
    special = [AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")]
    tokenizer.add_special_tokens(special)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = TemplateProcessing(
        single=["<s>", "$A"], special_tokens=[("<s>", bos)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_config(folder)
    return folder
