"""A probabilistic grammar that writes short children's tales in English.

Owns: the words, the plots, and the split into training and held-out stories. Does not own: the chat
form of a story (`demo_chat.py`), tokens and training (`train_demo.py`).

A story has a hero, a friend, an object that the hero wants (or has lost), a home, a weather and one
of six plots. Whoever predicts it has to carry state over about 15 sentences: names and pronouns,
the colour of the object, each character's voice, what the weather does to the road and the evening,
which animal can help at which obstacle, and who owns the object in the end. Held-out stories are
about pairs of hero and object that no training story combines: they can only be composed.

    python examples/demo_grammar.py --stories 3 --seed 1 --split valid
"""

import argparse
import itertools
import random
from collections.abc import Iterator
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
    "dig": ("mole badger rabbit mouse", "in a hole deep under the ground", "dug into the hole"),
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

# One step of a story per line; " | " stands between the ways to say it.
OPENING = """
Once upon a time, a {h.trait} {h.species} named {h.name} lived {home}.\
 | There was once a {h.trait} {h.species} called {h.name}, who lived {home}.\
 | {h.name} was a {h.trait} {h.species} who lived {home}.
"""
MORNING = "It was a {day} morning. {sky} | One {day} morning {h.he} looked outside. {sky}"
WISH = """
"I wish I had {o.a}," {h.said} {h.name}. "Then I could {o.use}."\
 | {h.name} wanted {o.a}, because {h.he} wanted to {o.use}.\
 | Every night {h.name} dreamed of {o.a} to {o.use}.
"""
CLOSING = """
And so {h.name} learned that {moral}. | Never forget that {moral}.\
 | From that day on, {h.name} knew that {moral}.
"""


@dataclass(frozen=True)
class Plot:
    """One kind of story."""

    steps: str  # what happens after the first paragraph, one step per line
    ending: str  # says who has what
    morals: tuple[str, str]
    owner: str = "h"  # who has the object in the end: "h", the hero, or "f", the friend
    verb: str = "wants"  # "a fox who <verb> a lantern"
    start: tuple[str, str] = (MORNING, WISH)  # the rest of the first paragraph


TRADE = Plot(
    """
{h.He} knew that {f.name}, a {f.trait} {f.species}, had {o.a}.\
 | {f.name}, a {f.trait} {f.species}, had {o.a}.
"Please, may I have your {o.noun}?" asked {h.name}.
"Bring me {g}, and the {o.noun} is yours," {f.said} {f.name}.\
 | "You may have it if you bring me {g}," {f.said} {f.name}.
So {h.name} went to {gplace} to find {g}. {road}
{h.He} found {g} at {gplace} and carried it back to {f.name}.
"Here is {g}," {h.said} {h.name}. "And here is the {o.noun}," {f.said} {f.name}.
""",
    ending="Now {h.name} had the {o.full}, and {f.name} had the {gnoun}.",
    morals=("a fair trade makes two friends happy", "you can not get without giving"),
)
LOSE = Plot(
    """
{loss}
"Oh no! Where is my {o.noun}?" {h.said} {h.name}.
{h.He} looked near {p1}, but it was not there.
{h.He} looked near {p2}, but it was not there either.
Then {h.he} met {f.name}, a {f.trait} {f.species}.
"I have lost my {o.full}," {h.said} {h.name}.
"I saw {o.a} near {p3}," {f.said} {f.name}. "Come with me."
They walked to {p3} together, and there was the {o.noun}.
""",
    ending="Now {h.name} had the {o.full} again, and {f.name} had a new friend.",
    morals=("friends help us to find what is lost", "two see more than one"),
    verb="loses",
    start=("{h.He} had {o.a} and used it every day to {o.use}.", MORNING),
)
TAKE = Plot(
    """
Near {p1} lived {f.name}, a {f.trait} {f.species}, who had {o.a}.
When it was dark, {h.name} went to {p1} and took the {o.noun} without asking.
"Who took my {o.full}?" asked {f.name} the next day. {f.He} was very sad.
{h.name} could not eat and could not sleep. | {h.name} felt bad and hung {h.his} head.
"I took it, and I am sorry," {h.said} {h.name}. "Here is your {o.noun}."
"Thank you for telling the truth," {f.said} {f.name}. "You can use it too."
""",
    ending="So the {o.full} stayed with {f.name}, and {h.name} asked before {h.he} used it.",
    morals=("it is never too late to say sorry", "it is better to ask than to take"),
    owner="f",
)
HELP = Plot(
    """
So {h.name} went to the market to buy one. {road}
Near {p1} {h.he} met {f.name}, a {f.trait} {f.species}.
"{trouble}," {f.said} {f.name}. "Please help me!"
{h.name} was in a hurry, but {h.he} stayed. {h.He} {fix}.
"Thank you," {f.said} {f.name}. "I have {o.a}, and now it is yours."
""",
    ending="So {h.name} had the {o.full}, and {h.he} did not have to buy one at all.",
    morals=("kindness always comes back", "the one who helps is helped"),
)
MAKE = Plot(
    """
"I will make one from {o.material}," {h.said} {h.name}.
{h.He} went to {p1} to look for {o.material}. {road}
Then {h.he} had the {o.material}, but {h.he} did not have a {o.tool}.
{f.name}, a {f.trait} {f.species}, had one. "May I use your {o.tool}?" asked {h.name}.
"Yes, but bring it back before dark," {f.said} {f.name}.\
 | "Yes, but take good care of it," {f.said} {f.name}.
{h.name} worked all day with the {o.tool} and the {o.material}.
"Look, the {o.noun} is ready!" {h.said} {h.name}. Then {h.he} gave back the {o.tool}.
""",
    ending="Now {h.name} had the {o.full}, and {f.name} had the {o.tool} again.",
    morals=("good things come to those who work", "a tool that is shared is worth two"),
    verb="makes",
)
FETCH = Plot(
    """
A little bird told {h.him}, "There is {o.a} {where}."
{h.name} ran to look for it. {road}
There was the {o.noun}, {where}, but {h.he} could not {ability}.
Then {f.name} came by. {f.He} was a {f.trait} {f.species}.
"Can you help me?" asked {h.name}. "Yes, I can {ability}," {f.said} {f.name}.
{f.name} {feat} and came back with the {o.noun}.
"It is yours," {f.said} {f.name}. "You are a good friend," {h.said} {h.name}.
""",
    ending="Now {h.name} had the {o.full}, and {f.name} was {h.his} best friend.",
    morals=("what one can not do, two can do", "it is wise to ask for help"),
)
PLOTS = (TRADE, LOSE, TAKE, HELP, MAKE, FETCH)


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
    plot: Plot
    day: str
    home: str
    moral: str


def is_held_out(species: str, noun: str) -> bool:
    """Tells whether heroes of `species` who want a `noun` are kept out of the training split."""
    return (SPECIES.index(species) + 3 * list(NOUNS).index(noun)) % 10 == 0


def write_story(rng: random.Random, split: str = "train") -> Story:
    """Draws one story of `split` ("train" or "valid") from `rng`."""
    pairs = itertools.product(SPECIES, NOUNS)
    species, noun = rng.choice([p for p in pairs if is_held_out(*p) == (split == "valid")])
    plot = rng.choice(PLOTS)
    ability, (able, where, feat) = rng.choice(
        [(name, row) for name, row in ABILITIES.items() if species not in row[0].split()]
    )
    others = able.split() if plot is FETCH else [other for other in SPECIES if other != species]
    names = rng.sample(SHE_NAMES + HE_NAMES, 2)
    h = Character(names[0], species, rng.choice(list(VOICES)))
    f = Character(names[1], rng.choice(others), rng.choice(list(VOICES)))
    item = Item(rng.choice(ADJECTIVES), noun)
    (home, p1, p2, p3), day = rng.sample(list(HOMES), 4), rng.choice(list(WEATHERS))
    gift, moral = rng.choice(list(GIFTS)), rng.choice(plot.morals)
    trouble, fix = rng.choice(list(TROUBLES.items()))
    sky, loss, road, evening = (part.format(h=h, o=item) for part in WEATHERS[day])

    def tell(*lines: str) -> str:
        steps = (rng.choice(line.split(" | ")) for line in "\n".join(lines).split("\n") if line)
        return " ".join(steps).format(
            h=h, f=f, o=item, p1=p1, p2=p2, p3=p3, home=HOMES[home], day=day, sky=sky, loss=loss,
            road=road, evening=evening, g=a(gift), gnoun=gift, gplace=GIFTS[gift], moral=moral,
            ability=ability, where=where, feat=feat, trouble=trouble, fix=fix.format(f=f),
        )  # fmt: skip

    first, last = tell(OPENING, *plot.start), tell("{evening}", plot.ending, CLOSING)
    text = f"{first}\n{tell(plot.steps)}\n{last}"
    return Story(text, h, f, item, plot, day, HOMES[home], moral)


def write_stories(count: int, seed: int, split: str = "train") -> Iterator[Story]:
    """Yields `count` stories; story i depends on (split, seed, i) alone."""
    for index in range(count):
        yield write_story(random.Random(f"{split}/{seed}/{index}"), split)


def main() -> None:
    """Prints stories, separated by lines that hold `<|endoftext|>`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stories", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "valid"), default="train")
    args = parser.parse_args()
    texts = (story.text for story in write_stories(args.stories, args.seed, args.split))
    print(f"\n{SEPARATOR}\n".join(texts))


if __name__ == "__main__":
    main()
