"""Token ids of a prompt, as TRL's trainers on rollouts make them, by transformers alone."""


def tokenize_prompt(prompt, tokenizer, **settings):
    """Messages through the chat template with these settings, text as it is."""
    if isinstance(prompt, str):
        return tokenizer(text=prompt)["input_ids"]
    return tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, tokenize=True, return_dict=True, **settings
    )["input_ids"]
