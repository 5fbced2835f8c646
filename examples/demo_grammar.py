"""A probabilistic grammar that writes short children's tales in English.

Owns: the words, the plots, the split into training and held-out stories, and the chat form of a
story. Does not own: tokens or training (`train_demo.py`).

A story has a hero, a friend, an object that the hero wants (or has lost), a home, a weather and one
of six plots. Whoever predicts it has to carry state over 9 to 15 sentences: names and pronouns, the
colour of the object, how each character speaks (set by a trait), what the weather does to the road
and to the evening, which animal can help at which obstacle, and who owns the object in the end.

Held-out stories are about pairs of hero species and object that no training story combines, so
they can not be recalled, only composed.

    python examples/demo_grammar.py --stories 3 --seed 1 --split valid
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SEPARATOR = "<|endoftext|>"  # stands on a line of its own between two stories

SHE_NAMES = ("Mia", "Rosa", "Lila", "Nora", "Ada", "Clara", "Ivy", "Luna", "Opal", "Wren")
HE_NAMES = ("Tom", "Finn", "Oscar", "Hugo", "Bruno", "Felix", "Jasper", "Milo", "Pip", "Theo")
VOICES = {  # trait -> the verb that carries this character's words
    "kind": "said", "clever": "said", "shy": "whispered", "cheerful": "sang",
    "grumpy": "grumbled", "brave": "called", "gentle": "murmured", "sleepy": "yawned",
}  # fmt: skip
ABILITIES = {  # ability -> (species that have it, where the object lies, what the friend does)
    "swim": ("otter duck frog goose", "on the far side of the river", "swam across the river"),
    "climb": ("squirrel cat owl crow", "at the top of the tallest tree", "went up to the top"),
    "dig": ("mole badger rabbit mouse", "in a hole deep under the ground", "dug down into the hole"),
    "push it away": ("bear goat deer horse", "behind a very heavy stone", "pushed the stone away"),
}
SPECIES = ["fox", "hedgehog", *(name for row in ABILITIES.values() for name in row[0].split())]
ADJECTIVES = ("red", "blue", "green", "yellow", "silver", "golden", "orange", "old", "tiny", "big")
OBJECTS = {  # (material, the tool that works it) -> what is made so: what it is good for
    ("tin", "hammer"): {"lantern": "light the path at night", "bell": "call everyone to supper"},
    ("wood", "hammer"): {"drum": "make music for the dance", "boat": "sail on the pond"},
    ("wood", "saw"): {"wagon": "carry wood for the fire", "chair": "rest after work"},
    ("wood", "knife"): {"flute": "play songs for the moon", "ladder": "reach the sweetest plums"},
    ("straw", "knife"): {"basket": "carry apples home", "broom": "sweep the floor"},
    ("wool", "needle"): {"scarf": "stay warm at night", "blanket": "sleep well at night"},
    ("cloth", "needle"): {"puppet": "put on a show", "cloak": "keep dry in the rain"},
    ("paper", "brush"): {"map": "find the hidden garden", "mask": "look funny at the party"},
    ("paper", "needle"): {"kite": "play in the wind", "hat": "go to the summer fair"},
    ("clay", "brush"): {"cup": "drink warm tea", "bowl": "share soup with everyone"},
}
NOUNS = {noun: (use, *made) for made, row in OBJECTS.items() for noun, use in row.items()}
GIFTS = {  # what a trade costs -> the place where it is found
    "honey cake": "the bakery", "apple pie": "the bakery", "loaf of bread": "the bakery",
    "pot of honey": "the market", "jar of jam": "the market", "bunch of flowers": "the market",
    "bag of nuts": "the farm", "round cheese": "the farm", "bag of berries": "the hedge",
}  # fmt: skip
HOMES = {  # a place -> where somebody lives who lives there
    "the river": "in a little house by the river", "the oak tree": "under the old oak tree",
    "the forest": "at the edge of the forest", "the hill": "on top of the green hill",
    "the lake": "in a cottage near the lake", "the meadow": "in the middle of the meadow",
    "the mill": "behind the old mill", "the garden": "at the end of the garden",
    "the barn": "in a corner of the barn", "the bridge": "under the stone bridge",
}  # fmt: skip
WEATHERS = {  # day -> (sky, how an object is lost, the road, the evening)
    "sunny": ("The sun was shining in a blue sky.",
              "{h.He} fell asleep in the warm sun, and then the {o.noun} was gone.",
              "The sun was hot and the road was long, but {h.he} did not stop.",
              "In the evening the sun went down, and the sky turned pink."),
    "rainy": ("Rain was falling on the roofs.",
              "The rain made a stream, and the stream carried the {o.noun} away.",
              "The road was wet and full of mud, but {h.he} did not stop.",
              "In the evening the rain stopped, and there was a rainbow."),
    "windy": ("The trees were bending in the wind.",
              "A strong wind came and blew the {o.noun} away.",
              "The wind pushed {h.him} back, but {h.he} did not stop.",
              "In the evening the wind went to sleep, and all was quiet."),
    "snowy": ("Snow was lying on the ground.",
              "{h.He} dropped the {o.noun} and could not find it in the deep snow.",
              "The snow was cold and deep, but {h.he} did not stop.",
              "In the evening the snow was shining under the stars."),
    "foggy": ("A thick fog was hiding the trees.",
              "{h.He} lost the way in the fog, and the {o.noun} was gone.",
              "The fog was hiding the road, but {h.he} did not stop.",
              "In the evening the fog was gone, and the moon was bright."),
}  # fmt: skip
TROUBLES = {  # what the friend complains of -> what the hero does about it
    "My foot is stuck under a root": "lifted the root and set {f.him} free",
    "My cart has lost a wheel": "put the wheel back on the cart",
    "I can not find my way home": "showed {f.him} the way home",
    "My roof has a big hole": "mended the roof with new boards",
}

OPENING = (
    "Once upon a time, a {h.trait} {h.species} named {h.name} lived {home}.",
    "There was once a {h.trait} {h.species} called {h.name}, who lived {home}.",
    "{h.name} was a {h.trait} {h.species} who lived {home}.",
)
MORNING = (
    "It was a {day} morning. {sky}",
    "One {day} morning {h.he} looked out of the window. {sky}",
)
WISH = (
    '"I wish I had {o.a}," {h.said} {h.name}. "Then I could {o.use}."',
    "{h.name} wanted {o.a}, because {h.he} wanted to {o.use}.",
    "Every night {h.name} dreamed of {o.a} to {o.use}.",
)
CLOSING = (
    "And so {h.name} learned that {moral}.",
    "From that day on, {h.name} knew that {moral}.",
    "Never forget that {moral}.",
)


@dataclass(frozen=True)
class Plot:
    """One kind of story: alternatives for each sentence after the opening, and how it ends."""

    steps: tuple[tuple[str, ...], ...]
    ending: str  # says who has what
    owner: str  # "h" or "f": who has the object in the end
    morals: tuple[str, ...]
    verb: str = "wants"  # "a fox who <verb> a lantern"


PLOTS = {
    "trade": Plot((MORNING, WISH,
        ("{h.He} knew that {f.name}, a {f.trait} {f.species}, had {o.a}.",
         "{f.name}, a {f.trait} {f.species}, had {o.a}."),
        ('"Please, may I have your {o.noun}?" asked {h.name}.',),
        ('"Bring me {g}, and the {o.noun} is yours," {f.said} {f.name}.',
         '"You may have it if you bring me {g}," {f.said} {f.name}.'),
        ("So {h.name} went to {gplace} to find {g}. {road}",),
        ("{h.He} found {g} at {gplace} and carried it back to {f.name}.",),
        ('"Here is {g}," {h.said} {h.name}. "And here is the {o.noun}," {f.said} {f.name}.',)),
        "Now {h.name} had the {o.full}, and {f.name} had the {gnoun}.", "h",
        ("a fair trade makes two friends happy", "you can not get without giving")),
    "lose": Plot((
        ("{h.He} had {o.a} and used it every day to {o.use}.",),
        MORNING, ("{loss}",), ('"Oh no! Where is my {o.noun}?" {h.said} {h.name}.',),
        ("{h.He} looked near {p1}, but it was not there. {h.He} looked near {p2}, but it was not "
         "there either.",),
        ("Then {h.he} met {f.name}, a {f.trait} {f.species}.",),
        ('"I have lost my {o.full}," {h.said} {h.name}.',),
        ('"I saw {o.a} near {p3}," {f.said} {f.name}. "Come with me."',),
        ("They walked to {p3} together, and there was the {o.noun}.",)),
        "Now {h.name} had the {o.full} again, and {f.name} had a new friend.", "h",
        ("friends help us to find what is lost", "two see more than one"), "loses"),
    "take": Plot((MORNING, WISH,
        ("Near {p1} lived {f.name}, a {f.trait} {f.species}, who had {o.a}.",),
        ("When it was dark, {h.name} went to {p1} and took the {o.noun} without asking.",),
        ('"Who took my {o.full}?" asked {f.name} the next day. {f.He} was very sad.',),
        ("{h.name} could not eat and could not sleep.", "{h.name} felt bad and hung {h.his} head."),
        ('"I took it, and I am sorry," {h.said} {h.name}. "Here is your {o.noun}."',),
        ('"Thank you for telling the truth," {f.said} {f.name}. "You can use it too."',)),
        "So the {o.full} stayed with {f.name}, and {h.name} asked before {h.he} used it.", "f",
        ("it is never too late to say sorry", "it is better to ask than to take")),
    "help": Plot((MORNING, WISH,
        ("So {h.name} went to the market to buy one. {road}",),
        ("Near {p1} {h.he} met {f.name}, a {f.trait} {f.species}.",),
        ('"{trouble}," {f.said} {f.name}. "Please help me!"',),
        ("{h.name} was in a hurry, but {h.he} stayed. {h.He} {fix}.",),
        ('"Thank you," {f.said} {f.name}. "I have {o.a}, and now it is yours."',)),
        "So {h.name} had the {o.full}, and {h.he} did not have to buy one at all.", "h",
        ("kindness always comes back", "the one who helps is helped"), ),
    "make": Plot((MORNING, WISH,
        ('"I will make one from {o.material}," {h.said} {h.name}.',),
        ("{h.He} went to {p1} to look for {o.material}. {road}",),
        ("Then {h.he} had the {o.material}, but {h.he} did not have a {o.tool}.",),
        ('{f.name}, a {f.trait} {f.species}, had one. "May I use your {o.tool}?" asked {h.name}.',),
        ('"Yes, but bring it back before dark," {f.said} {f.name}.',
         '"Yes, but take good care of it," {f.said} {f.name}.'),
        ("{h.name} worked all day with the {o.tool} and the {o.material}.",),
        ('"Look, the {o.noun} is ready!" {h.said} {h.name}. Then {h.he} gave back the {o.tool}.',)),
        "Now {h.name} had the {o.full}, and {f.name} had the {o.tool} again.", "h",
        ("good things come to those who work", "a tool that is shared is worth two"), "makes"),
    "fetch": Plot((MORNING, WISH,
        ('A little bird told {h.him}, "There is {o.a} {where}."',),
        ("{h.name} ran to look for it. {road}",),
        ("There was the {o.noun}, {where}, but {h.he} could not {ability}.",),
        ("Then {f.name} came by. {f.He} was a {f.trait} {f.species}.",),
        ('"Can you help me?" asked {h.name}. "Yes, I can {ability}," {f.said} {f.name}.',),
        ("{f.name} {feat} and came back with the {o.noun}.",),
        ('"It is yours," {f.said} {f.name}. "You are a good friend," {h.said} {h.name}.',)),
        "Now {h.name} had the {o.full}, and {f.name} was {h.his} best friend.", "h",
        ("what one can not do, two can do", "it is wise to ask for help")),
}  # fmt: skip


def a(words: str) -> str:
    """Puts the indefinite article before `words`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class Character:
    """Somebody in a story; the name decides the pronouns, the trait decides the voice."""

    def __init__(self, name: str, species: str, trait: str) -> None:
        """Derives the words for this character."""
        she = name in SHE_NAMES
        self.name, self.species, self.trait, self.said = name, species, trait, VOICES[trait]
        self.he, self.him, self.his = ("she", "her", "her") if she else ("he", "him", "his")
        self.He = self.he.capitalize()


class Item:
    """The object of a story."""

    def __init__(self, adjective: str, noun: str) -> None:
        """Derives the words for this object."""
        self.noun, self.full = noun, f"{adjective} {noun}"
        self.a = a(self.full)
        self.use, self.material, self.tool = NOUNS[noun]


@dataclass(frozen=True)
class Story:
    """A finished story and the facts that it tells."""

    text: str
    hero: Character
    friend: Character
    item: Item
    plot: str
    day: str
    home: str
    moral: str


def is_held_out(species: str, noun: str) -> bool:
    """Tells whether heroes of `species` who want a `noun` are kept out of the training split."""
    return (SPECIES.index(species) + 3 * list(NOUNS).index(noun)) % 10 == 0


def write_story(rng: random.Random, split: str = "train") -> Story:
    """Draws one story of `split` ("train" or "valid") from `rng`."""
    species, noun = "", ""
    while not species or is_held_out(species, noun) != (split == "valid"):
        species, noun = rng.choice(SPECIES), rng.choice(list(NOUNS))
    plot_name = rng.choice(list(PLOTS))
    plot = PLOTS[plot_name]
    ability, (able, where, feat) = rng.choice(
        [(name, row) for name, row in ABILITIES.items() if species not in row[0].split()]
    )
    others = able.split() if plot_name == "fetch" else [one for one in SPECIES if one != species]
    names = rng.sample(SHE_NAMES + HE_NAMES, 2)
    hero = Character(names[0], species, rng.choice(list(VOICES)))
    friend = Character(names[1], rng.choice(others), rng.choice(list(VOICES)))
    item = Item(rng.choice(ADJECTIVES), noun)
    home, p1, p2, p3 = rng.sample(list(HOMES), 4)
    day, gift = rng.choice(list(WEATHERS)), rng.choice(list(GIFTS))
    trouble, moral = rng.choice(list(TROUBLES)), rng.choice(plot.morals)
    facts: dict[str, object] = {
        **{"h": hero, "f": friend, "o": item, "home": HOMES[home], "p1": p1, "p2": p2, "p3": p3},
        **{"day": day, "ability": ability, "where": where, "feat": feat, "moral": moral},
        **{"trouble": trouble, "g": a(gift), "gnoun": gift, "gplace": GIFTS[gift]},
    }
    facts["fix"] = TROUBLES[trouble].format(**facts)
    for key, template in zip(("sky", "loss", "road", "evening"), WEATHERS[day], strict=True):
        facts[key] = template.format(**facts)

    def tell(steps: Sequence[tuple[str, ...]]) -> str:
        return " ".join(rng.choice(step).format(**facts) for step in steps)

    parts = (OPENING, *plot.steps[:2]), plot.steps[2:], (("{evening}",), (plot.ending,), CLOSING)
    paragraphs = [tell(part) for part in parts]
    return Story("\n".join(paragraphs), hero, friend, item, plot_name, day, HOMES[home], moral)


def write_stories(count: int, seed: int, split: str = "train") -> Iterator[Story]:
    """Yields `count` stories; story i depends on (split, seed, i) alone."""
    for index in range(count):
        yield write_story(random.Random(f"{split}/{seed}/{index}"), split)


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
    verb = PLOTS[story.plot].verb
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
    owner = hero if PLOTS[story.plot].owner == "h" else friend
    questions = (
        (f"Who has the {item.noun} now?", f"{owner.name} has the {item.full}."),
        (f"Where did {hero.name} live?", f"{hero.name} lived {story.home}."),
        (f"Who is {friend.name}?", f"{friend.name} is a {friend.trait} {friend.species}."),
        ("What was the weather like?", f"It was a {story.day} day."),
        ("What is the moral?", f"The moral is that {story.moral}."),
        *SMALL_TALK[-1:],
    )
    turns += rng.sample(questions, rng.choice((0, 1, 2)))
    return [rng.choice(SMALL_TALK[:-1]), *turns] if rng.random() < 0.15 else turns


def main() -> None:
    """Prints stories, separated by lines that hold `<|endoftext|>`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stories", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "valid"), default="train")
    args = parser.parse_args()
    stories = write_stories(args.stories, args.seed, args.split)
    print(f"\n{SEPARATOR}\n".join(story.text for story in stories))


if __name__ == "__main__":
    main()
