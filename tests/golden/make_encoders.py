"""Write a tiny folder a family under tests/golden, and the hidden states and logits that PyTorch gives for it.

Run where torch is installed, from the repository's root:

    python tests/golden/make_encoders.py

The folders are committed, so that parity with PyTorch is checked where torch is not installed.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

FOLDER = Path(__file__).parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """
a the this that it is was not and but or of in to for with very so too film movie story plot actor scene music
good great fine lovely happy bright warm best funny clever bad awful poor sad dull cold worst boring weak slow
dog cat tree house river stone door table train city day night week year one two three four five six
##s ##ed ##ing ##ly ##er ##est un re . , ! ? '
""".split()  # noqa: SIM905 -- a list a line would be 80 lines


# A family's own names for what `BERT` calls so, and what only it has.
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64}
ROTARY = BERT | {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
DECODER = ROTARY | {"num_key_value_heads": 2}
FAMILIES = {
    "bert": BERT,
    "roberta": BERT | {"max_position_embeddings": 66, "pad_token_id": 1},
    "distilbert": DISTILBERT,
    "electra": BERT | {"embedding_size": 16},
    "modernbert": ROTARY | {"num_hidden_layers": 4, "local_attention": 6},
    "llama": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER | {"head_dim": 8},
}


def main() -> None:
    """Write every family's folder; BERT's also has a tokenizer."""
    vocab = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    for family, sizes in FAMILIES.items():
        write(FOLDER / family, family, sizes | {"vocab_size": len(vocab)})
    tokenizer(vocab).save_pretrained(FOLDER / "bert")


def write(folder: Path, family: str, sizes: dict[str, int]) -> None:
    """A random model of that family, and the hidden states of four rows of tokens."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **sizes), attn_implementation="eager").eval()
    with torch.no_grad():
        # Far from the initial weights, under which every token attends to all alike and the norms do nothing.
        # Sums that no norm brings back grow with the weights, and rounding with them.
        spread = 0.3 if sizes.get("bos_token_id") is None else 0.1
        for name, parameter in model.named_parameters():
            shift = 1.0 if name.lower().endswith("norm.weight") else 0.0
            parameter.copy_(shift + spread * torch.randn(parameter.shape))
    model.save_pretrained(folder)

    lengths = [3, 12, 7, 9]
    ids = torch.full((4, 12), model.config.pad_token_id)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, sizes["vocab_size"], (length,))
        mask[row, :length] = 1
        if getattr(model.config, "type_vocab_size", 0) > 1 and family != "roberta":
            types[row, length // 2 : length] = row % 2
    segments = {"token_type_ids": types} if hasattr(model.config, "type_vocab_size") else {}
    with torch.no_grad():
        states = model(ids, attention_mask=mask, **segments, output_hidden_states=True).hidden_states
    torch.manual_seed(1)
    model.config.num_labels = 3
    classifier = AutoModelForSequenceClassification.from_config(model.config, attn_implementation="eager").eval()
    classifier.base_model.load_state_dict(model.state_dict(), strict=False)
    head = {}
    with torch.no_grad():
        for name, parameter in classifier.named_parameters():
            short = name.removeprefix(classifier.base_model_prefix + ".")
            if short not in model.state_dict():
                parameter.copy_((1.0 if name.endswith("norm.weight") else 0.0) + 0.3 * torch.randn(parameter.shape))
            if short not in model.state_dict() or short.startswith("pooler."):
                head[f"head.{short}"] = parameter.numpy()
        logits = classifier(ids, attention_mask=mask, **segments).logits
    np.savez_compressed(
        folder / "expected.npz",
        logits=logits.numpy(),
        **head,
        input_ids=ids.numpy().astype(np.int32),
        attention_mask=mask.numpy().astype(np.int32),
        token_type_ids=types.numpy().astype(np.int32),
        hidden_states=np.stack([state.numpy() for state in states]),
    )


def tokenizer(vocab: dict[str, int]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of that vocabulary, as BERT's."""
    inner = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=64,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


if __name__ == "__main__":
    main()
