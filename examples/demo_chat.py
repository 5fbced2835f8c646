"""Conversations around the stories of `demo_grammar.py`, so that the demo model can chat.

Owns: what a user may ask and what the story teller answers. Does not own: the prompt format, which
is the chat template of the tokenizer that `train_demo.py` writes.

    python examples/demo_chat.py --chats 2 --seed 1 --split valid
"""

import argparse
import random

from demo_grammar import SEPARATOR, Story, a, write_stories

SMALL_TALK = (
    ("Hello!", "Hello! Shall I tell you a story?"),
    ("Hi", "Hello! Shall I tell you a story?"),
    ("Who are you?", "I am a very small model, and I tell stories."),
    ("What can you do?", "I can tell you a story about a fox, a bear or an owl."),
    ("Thank you!", "You are welcome. Shall I tell you another story?"),
)


def write_chat(rng: random.Random, story: Story) -> list[tuple[str, str]]:
    """Wraps `story` in a conversation: a list of (what the user says, what the model answers)."""
    hero, friend, item = story.hero, story.friend, story.item
    verb = story.plot.verb
    ask = rng.choice(("Tell me a story", "Please tell me a story", "Can you tell me a story"))
    topic = rng.choices((
        f" about {a(hero.species)} who {verb} {a(item.noun)}",
        f" about {a(hero.species)} who wants {rng.choice((a(item.noun), item.a))}",
        f" about {hero.name} the {hero.species} who {verb} {item.a}",
        f" about {a(hero.species)} and {a(friend.species)}",
        f" about {hero.name} the {hero.species}",
        f" about {a(hero.species)}",
        f" about {a(item.noun)}",
        f" about a {story.day} day",
        "",
    ), (5, 5, 2, 2, 2, 2, 2, 1, 1))[0]  # fmt: skip
    mark = "" if rng.random() < 0.1 else "?" if ask.startswith("Can") else "."
    turns = [(ask + topic + mark, story.text)]
    owner = hero if story.plot.owner == "h" else friend
    questions = [
        (f"Who has the {item.noun} now?", f"{owner.name} has the {item.full}."),
        (f"Where did {hero.name} live?", f"{hero.name} lived {story.home}."),
        (f"Who is {friend.name}?", f"{friend.name} is a {friend.trait} {friend.species}."),
        ("What was the weather like?", f"It was a {story.day} day."),
        ("What is the moral?", f"The moral is that {story.moral}."),
        SMALL_TALK[-1],
    ]
    turns += rng.sample(questions, rng.choice((0, 1, 2)))
    return [rng.choice(SMALL_TALK[:-1]), *turns] if rng.random() < 0.15 else turns


def main() -> None:
    """Prints conversations, separated by lines that hold `<|endoftext|>`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--chats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "valid"), default="train")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    chats = [write_chat(rng, story) for story in write_stories(args.chats, args.seed, args.split)]
    texts = ("\n".join(f"User: {asked}\nAssistant: {told}" for asked, told in c) for c in chats)
    print(f"\n{SEPARATOR}\n".join(texts))


if __name__ == "__main__":
    main()
