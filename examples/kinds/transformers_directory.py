"""A directory of Hugging Face transformers, as ``save_pretrained`` writes it.

The network is tiny and knows nothing, so that nothing has to be downloaded; one from the Hugging Face hub is
described in the same way.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _example import Example, publish_and_run
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer, pipeline

from dlhub_sdk.models.servables.transformers import TransformersModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sample", "is", "stable", "un", "##stable", "."]


def describe(directory: Path) -> Example:
    """Make a classifier of sentences, and describe its directory."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label={0: "decays", 1: "lasts"},
        label2id={"decays": 0, "lasts": 1},
    )
    network = BertForSequenceClassification(config).eval()
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    network.save_pretrained(directory / "bert")
    tokenizer.save_pretrained(directory / "bert")

    model = TransformersModel.create_model(directory / "bert")
    model.set_title("Does the sample last?").set_name("sample-bert").set_domains(["materials science"])
    sentence = "The sample is unstable."
    expected = pipeline("text-classification", model=network, tokenizer=tokenizer)(sentence)
    model.set_test(sentence, expected, rtol=1e-4)
    return Example(model, sentence, expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
