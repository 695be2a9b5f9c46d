#!/usr/bin/env python3
"""Trains the small byte-pair tokenizer of config/models/edge: python3 tools/tokenizer.py OUT.json

The text is the prompts of the four tasks with some sentences about the same things; the same text gives the same file.
Needs: pip install tokenizers==0.23.3
"""

import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SUBJECTS = [
    "the optimal beam index", "the human activity", "the human pose", "future link blockage", "the best beams to sweep",
    "the time to the next blockage", "the received power of each beam", "the position of the user",
]
VERBS = ["Predict", "Estimate", "Forecast", "Classify", "Track"]
INPUTS = [
    "multi-modal inputs", "camera images", "radar points", "LiDAR point clouds", "past beam power reports",
    "camera, radar and LiDAR", "images at night", "radar in rain and fog",
]
SPECIAL = ["<unk>", "<|begin_of_text|>", "<|end_of_text|>"]
# How Llama 3 splits text.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main() -> None:
    text = [f"{verb} {subject} from {inputs}." for verb in VERBS for subject in SUBJECTS for inputs in INPUTS]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=504, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    begin = SPECIAL[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    tokenizer.save(sys.argv[1])


main()
