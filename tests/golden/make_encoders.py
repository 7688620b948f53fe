"""Write tests/golden/bert: a tiny BERT folder, and the hidden states that PyTorch gives for it.

Run where torch is installed, from the repository's root:

    python tests/golden/make_bert.py

The folder is committed, so that parity with PyTorch is checked where torch is not installed.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

FOLDER = Path(__file__).parent / "bert"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """
a the this that it is was not and but or of in to for with very so too film movie story plot actor scene music
good great fine lovely happy bright warm best funny clever bad awful poor sad dull cold worst boring weak slow
dog cat tree house river stone door table train city day night week year one two three four five six
##s ##ed ##ing ##ly ##er ##est un re . , ! ? '
""".split()  # noqa: SIM905 -- a list a line would be 80 lines


def main() -> None:
    """Write the folder and the expected values."""
    torch.manual_seed(0)
    vocab = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        # Far from the initial weights, under which every token attends to all alike and the norms do nothing.
        for name, parameter in model.named_parameters():
            shift = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(shift + 0.3 * torch.randn(parameter.shape))
    model.save_pretrained(FOLDER)
    tokenizer(vocab).save_pretrained(FOLDER)

    lengths = [3, 12, 7, 9]
    ids = torch.zeros(4, 12, dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, len(vocab), (length,))
        mask[row, :length] = 1
        types[row, length // 2 : length] = row % 2
    with torch.no_grad():
        states = model(ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True).hidden_states
    np.savez_compressed(
        FOLDER / "expected.npz",
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
