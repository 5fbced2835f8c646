"""Trains the demo checkpoint: a BitNet b1.58 of 1.3 million parameters that tells short tales.

Owns: the tokenizer, the quantization-aware training loop, the exported Hugging Face folder. Does
not own: the text (`demo_grammar.py`, `demo_chat.py`). It needs torch, transformers and tokenizers,
and nothing of this project, so the checkpoint does not depend on the engine that it demonstrates.

Method: BitLinear of arXiv 2310.11453 with the ternary weights and the recipe of arXiv 2402.17764
(absmean weights, absmax int8 activations, straight-through gradients, a learning rate in two
stages, weight decay only in the first); sub-norms and relu^2 as in arXiv 2504.12285.

    python examples/train_demo.py --out demo_checkpoint
"""

import argparse
import copy
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from demo_chat import write_chat
from demo_grammar import SEPARATOR, write_stories
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import BitNetConfig, BitNetForCausalLM

BOS, EOS = "<s>", "</s>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant:\\n' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)


def train_tokenizer(vocab_size: int, seed: int) -> Tokenizer:
    """Trains a byte-level BPE: every byte is a token, so any text can be encoded."""
    rng = random.Random(seed)
    stories = list(write_stories(4000, seed))
    turns = [turn for story in stories for turn in write_chat(rng, story)]
    texts = [f"User: {asked}\nAssistant:\n{told}" for asked, told in turns]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
    )
    return tokenizer


def documents(tokenizer: Tokenizer, seed: int) -> Iterator[list[int]]:
    """Yields token ids of training documents without end: stories, and as many conversations."""
    rng = random.Random(f"documents/{seed}")
    for part in range(sys.maxsize):
        for story in write_stories(10_000, seed * 1_000_003 + part + 1):
            if rng.random() < 0.5:
                text = BOS + story.text + EOS
            else:
                turns = write_chat(rng, story)
                text = BOS + "".join(f"User: {u}\nAssistant:\n{m}{EOS}" for u, m in turns)
            yield tokenizer.encode(text, add_special_tokens=False).ids


def batches(stream: Iterator[list[int]], batch_tokens: int) -> Iterator[Tensor]:
    """Groups documents of similar length.

    Yields:
        int64 [documents, length], at most about `batch_tokens` elements, padded with -100.
    """
    pool_documents = 1024
    while pool := sorted(islice(stream, pool_documents), key=len):
        groups: list[Tensor] = []
        while pool:
            count = max(1, batch_tokens // len(pool[-1]))
            group, pool = pool[-count:], pool[:-count]
            padded = torch.full((len(group), len(group[-1])), -100)
            for row, ids in zip(padded, group, strict=True):
                row[: len(ids)] = torch.tensor(ids)
            groups.append(padded)
        groups.pop()  # the shortest documents: not a full batch
        order = torch.randperm(len(groups)).tolist()
        yield from (groups[index] for index in order)


class QuantizeWeight(torch.autograd.Function):
    """absmean ternary weights, one scale per tensor (arXiv 2402.17764); identity gradient."""

    @staticmethod
    def forward(_ctx: object, weight: Tensor) -> Tensor:
        """Maps float32 [N, K] to gamma * {-1, 0, 1}."""
        gamma = weight.abs().mean(dtype=torch.float64).clamp_(min=1e-5).float()
        return (weight * (1 / gamma)).round_().clamp_(-1, 1).mul_(gamma)

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        """Passes the gradient straight through."""
        return gradient


class QuantizeActivations(torch.autograd.Function):
    """absmax int8 activations, one scale per token (arXiv 2310.11453); identity gradient."""

    @staticmethod
    def forward(_ctx: object, x: Tensor) -> Tensor:
        """Maps float32 [..., K] to m/127 * {-128, ..., 127}, m the largest magnitude of the row."""
        m = x.abs().amax(dim=-1, keepdim=True).clamp_(min=1e-5)
        return (x * (127 / m)).round_().clamp_(-128, 127).mul_(m / 127)

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        """Passes the gradient straight through."""
        return gradient


class BitLinear(nn.Linear):
    """A linear layer that computes with quantized weights and activations, and learns masters."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps float32 [..., K] to float32 [..., N]."""
        return functional.linear(QuantizeActivations.apply(x), QuantizeWeight.apply(self.weight))


def build_model(args: argparse.Namespace) -> BitNetForCausalLM:
    """Builds the model with a BitLinear for every linear layer but the (tied) output head."""
    config = BitNetConfig(
        vocab_size=args.vocab_size,
        hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        hidden_act="relu2",
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
        use_cache=False,
    )
    model = BitNetForCausalLM(config)
    for layer in model.model.layers:
        for block in (layer.self_attn, layer.mlp):
            for child in block.children():
                if isinstance(child, nn.Linear):
                    child.__class__ = BitLinear  # same weight, other forward
    return model


def loss_of(model: BitNetForCausalLM, batch: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats of every token after the first of each row; -100 is padding."""
    hidden = model.model(input_ids=batch[:, :-1].clamp(min=0), use_cache=False).last_hidden_state
    targets = batch[:, 1:]
    logits = model.lm_head(hidden[targets >= 0])
    return functional.cross_entropy(logits, targets[targets >= 0], reduction=reduction)


@torch.no_grad()
def perplexity(model: BitNetForCausalLM, tokenizer: Tokenizer, segments: list[str]) -> float:
    """Returns exp of the mean nats per token; each segment stands alone and follows a BOS."""
    model.eval()
    rows = [torch.tensor([tokenizer.encode(segment).ids]) for segment in segments]
    nats = sum(loss_of(model, row, "sum").double().item() for row in rows)
    model.train()
    return math.exp(nats / sum(row.shape[1] - 1 for row in rows))


def schedule(step: int, args: argparse.Namespace) -> tuple[float, float]:
    """Learning rate and weight decay of a step: arXiv 2402.17764's two stages of linear decay.

    Stage 1 warms up and then aims at zero from the peak; stage 2 starts half-way at two thirds of
    where stage 1 stands, reaches zero at the end, and has no weight decay.
    """
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup, args.weight_decay
    left = 1 - step / args.steps
    return (args.lr * left, args.weight_decay) if left > 0.5 else (args.lr * left * 2 / 3, 0.0)


def train(model: BitNetForCausalLM, tokenizer: Tokenizer, args: argparse.Namespace) -> None:
    """Trains the masters in place with Adam(0.9, 0.95)."""
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    valid = [story.text for story in write_stories(40, args.seed + 1, "valid")]
    started, tokens, smooth = time.monotonic(), 0, 0.0
    for step, batch in enumerate(
        islice(batches(documents(tokenizer, args.seed), args.batch_tokens), args.steps)
    ):
        rate, decay = schedule(step, args)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.param_groups[0]["weight_decay"] = decay
        loss = loss_of(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += int((batch >= 0).sum())
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 50 == 0 or step == args.steps - 1:
            seconds = time.monotonic() - started
            line = f"step {step:5d}  loss {smooth:.4f}  lr {rate:.2e}  wd {decay:.2f}"
            line += f"  {tokens / seconds:6.0f} tokens/s  {seconds:5.0f} s"
            if step % 500 == 0 or step == args.steps - 1:
                line += f"  held-out perplexity {perplexity(model, tokenizer, valid):.4f}"
            print(line, flush=True)


def write_json(path: Path, content: object) -> None:
    """Writes `content` as indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def export(model: BitNetForCausalLM, tokenizer: Tokenizer, out: Path) -> BitNetForCausalLM:
    """Writes the Hugging Face folder with bf16 masters.

    Returns:
        A float32 model that holds exactly the stored values.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    del state["lm_head.weight"]  # tied to the embeddings
    save_file(state, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # save_file leaves it readable for its owner alone
    fields = copy.deepcopy(model.config)
    fields.architectures, fields.dtype, fields.use_cache = ["BitNetForCausalLM"], "bfloat16", True
    # the convention for masters that the reader quantizes
    quantization = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    config = fields.to_dict() | {
        "quantization_config": quantization | {"quantization_mode": "online"},
    }
    write_json(out / "config.json", config)
    write_json(
        out / "generation_config.json",
        {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.8}
        | {"max_new_tokens": 384},
    )
    tokenizer.save(str(out / "tokenizer.json"))
    specials = {"bos_token": BOS, "eos_token": EOS}
    write_json(out / "special_tokens_map.json", specials)
    write_json(
        out / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", **specials, "model_max_length": 512}
        | {"clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE},
    )
    stored = copy.deepcopy(model)
    stored.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    return stored


def sample(model: BitNetForCausalLM, tokenizer: Tokenizer, prompt: str, temperature: float) -> str:
    """Continues `prompt` up to EOS or the end of the context; temperature 0 is greedy."""
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    how = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    mask = torch.ones_like(ids)
    told = model.generate(
        ids, attention_mask=mask, max_length=512, pad_token_id=1, use_cache=True, **how
    )
    return str(tokenizer.decode(told[0].tolist()))


def main() -> None:
    """Trains and exports the demo checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=8e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--vocab-size", type=int, default=768)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--intermediate-size", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    tokenizer = train_tokenizer(args.vocab_size, args.seed)
    model = build_model(args)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, tokenizer, args)

    stored = export(model, tokenizer, args.out)
    segments = [story.text for story in write_stories(50, 0, "valid")]
    (args.out / "valid.txt").write_text(f"\n{SEPARATOR}\n".join(segments) + "\n", encoding="utf-8")
    for name, candidate in (("float32", model), ("bf16", stored)):
        value = perplexity(candidate, tokenizer, segments)
        print(f"valid.txt: perplexity with the ternary weights of {name} masters {value:.4f}")
    ask = "User: Tell me a story about a fox who wants a lantern.\nAssistant:\n"
    for prompt, temperature in (("Once", 0.0), (ask, 0.0), ("Once", 0.8), (ask, 0.8)):
        told = sample(stored.eval(), tokenizer, prompt, temperature)
        print(f"\n--- temperature {temperature}\n{told}")


if __name__ == "__main__":
    main()
