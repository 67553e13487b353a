"""Which of Debian's pictures show which material and which scene, and how a stamp's description becomes a word."""

from __future__ import annotations

import re

MATERIALS: dict[str, tuple[str, ...]] = {
    "brick": ("brick",),
    "rock": ("rock", "Craters", "Moonfoot", "cracked"),
    "cobblestone": ("stone33",),
    "slate": ("slate",),
    "marble": ("marble1", "marble2", "marble3", "pink_marble"),
    "granite": ("granite1", "granite2"),
    "terracotta": ("terra",),
    "wood": ("pine", "wood1", "wood2", "wood3", "wood4", "wood5", "walnut", "burlwood"),
    "parquet": ("parque1", "parque2", "parque3"),
    "bark": ("bark",),
    "cork": ("corkboard",),
    "leather": ("leather",),
    "fur": ("leopard", "cow"),
    "burlap": ("burlap",),
    "fabric": ("greyweave", "greyweave2", "green_curtains"),
    "paper": ("paper", "crinklepaper"),
    "fiber": ("fibers",),
    "soil": ("ground1", "drymud", "dirt"),
    "foliage": ("leaves", "leaves3", "leaves4", "leaves6", "clovers"),
    "water": ("pool", "electric", "waves", "water3"),
    "ice": ("ice", "ice2"),
    "cloud": ("sky", "clouds"),
    "chain": ("chains",),
    "coins": ("coins",),
    "banknotes": ("money",),
    "coffee beans": ("java", "pebbles"),
    "nuts": ("cashew",),
    "gold": ("gold", "goldcloth"),
    "silver": ("silver", "metallica"),
    "circuit board": ("circuit",),
    "tile": ("floor_tile", "blackwhitefloor", "startile"),
    "rust": ("rust",),
    "crystal": ("crystals", "amethyst"),
    "wax": ("wax",),
    "chocolate": ("choc_swirl",),
    "blinds": ("woodblind",),
}
"""Material to GIMP patterns, by file name without ``.pat``."""

SCENES: dict[str, tuple[str, ...]] = {
    "mountain": ("aitzgorri_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi"),
    "cliff": ("cliff",),
    "creek": ("life_by_Aitzol_Berasategi",),
    "sunset": ("sunset_by_Aitzol_Berasategi", "skyline-sf-dusk-back"),
    "meadow": ("GreenMeadow", "seeding_by_Clements_Engelhardt"),
    "dune": ("Dune",),
    "highway": ("Storm",),
    "sky": ("sun_behind_clouds",),
    "corn field": ("corn_maze",),
    "ocean": ("ocean_waves", "ocean_splash"),
    "forest": ("redwoods_above", "trees_above", "mossy_log", "trees_at_dusk"),
    "lighthouse": ("lighthouse",),
    "pasture": ("sheep",),
    "coral reef": ("reef-back",),
    "underwater": ("jellyfish",),
    "garden": ("Garden", "FreshFlower", "YellowFlower", "LadyBird", "TwoWings"),
    "bar": ("Wine_by_Jakkub_Mede",),
    "factory": ("wool_mill_machine",),
    "bridge": ("Bridge_by_Sander_Klootwijk",),
    "pebble beach": ("rocks",),
}
"""Scene to pictures, by file name without its ending."""

NOT_PHOTOGRAPHS = ("symbols", "cartoon", "flags", "roadsigns", "hanukkah", "faces", "toys")
"""Folders of stamps that hold drawings, letters and signs."""

SPELLED_OUT: dict[str, str] = {
    "Strawberry2": "strawberry",
    "adeenia": "desert rose",
    "anthoorium": "anthurium",
    "appooppanthady": "milkweed",
    "bluegroper": "groper",
    "bolsom": "balsam",
    "bradley": "armored vehicle",
    "chemparathi": "hibiscus",
    "chineseJunk": "junk ship",
    "chuvanna_plastic_poo": "plastic flower",
    "drum_tomtom_floor": "drum",
    "f22_raptor": "fighter jet",
    "final-roll-call": "soldier's memorial",
    "glass": "drinking glass",
    "gnu-baby": "gnu",
    "gnu-baby-stand": "gnu",
    "guitar_electric_bass": "bass guitar",
    "heron_greatblue": "heron",
    "heron_greatblue_flying": "heron",
    "home_compost_bin": "compost bin",
    "infantry-stryker": "armored vehicle",
    "jackolantern_mean": "jack-o'-lantern",
    "moon_3qt": "moon",
    "moon_crescent": "moon",
    "old_naval_shell": "artillery shell",
    "pen_dryerase": "marker pen",
    "sedan_police": "police car",
    "uk_post_box": "mailbox",
    "wrench_plumbers": "wrench",
    "ww2_german_gun": "cannon",
    "xanthia": "moth",
}
"""Words of stamps whose descriptions and file names hold no plain noun."""

SAME: dict[str, str] = {
    word: name
    for name, words in {
        "anemone": "anemone red",
        "apple": "apple granny smith, apple sierra beauty, fuji apple",
        "avocado": "avocado fruit",
        "ball": "cricket ball, soccer ball, tennis ball, basketball, football, american football",
        "car": "sedan car, sports car, vw beetle, race car",
        "cherimoya": "cherimoya fruit",
        "chicken": "hen",
        "duck": "drake",
        "flower": "flowers, plastic flower",
        "fly": "hoverfly",
        "garbage can": "wheelie bin, compost bin",
        "garlic": "garlic bulb",
        "goat": "mountaingoat",
        "gravestone": "grave, grave marker, headstone, tombstone, cemetery marker, monument stone",
        "guinea fowl": "helmeted guineafowl",
        "guitar": "electric guitar, classical guitar, bass guitar",
        "hat": "fedora, feathered hat, propeller hat, top hat, christmas hat, party hat, sombrero",
        "hibiscus": "hibiscus flower",
        "mushroom": "cep, headed cep",
        "orange": "seville orange, mandarin orange",
        "penguin": "magellanic penguin",
        "petunia": "star petunia",
        "rabbit": "bunny",
        "rosella": "adelaide rosella",
        "seagull": "gull",
        "shirt": "t shirt, polo shirt",
        "tiger": "sumatran tiger",
        "tree": "alien tree, holm oak, birch",
        "truck": "pickup truck, garbage truck, dumper",
        "walnut": "walnut shelled",
        "wild boar": "wild boars",
        "wrench": "adjustable wrench",
    }.items()
    for word in words.split(", ")
}
"""Words that are drawn together under a plainer one, so that more pictures show it."""

_ADJECTIVES = (
    "another|very|little|small|large|big|ripe|closed|open|male|female|baby|old|modern|lit|wrapped|folded|shelled|"
    "colorful|red|green|blue|yellow|brown|black|white|pink|grey|silver|purple|albino|sitting|sleeping|sliced|bolted|"
    "poisonous|tough|floppy-eared|big eared|eared|full|great|sweet|old-fashioned|tamworth|european|striped|stripey"
)
_LEADING = re.compile(
    rf"^(an?|the|some|two|our|your|pair of|bunch of|cup of|head of|string of|plant of|quarter of|{_ADJECTIVES})\s+"
)
_TAIL = re.compile(r"\s+(is|are|for|with|that|from|hatched|inside|making|used|resembles|lets|and|stands?)\s.*$")


def object_name(description: str, stem: str) -> str:
    """A stamp's word, synonyms drawn together by `SAME`; see `described_name`."""
    name = described_name(description, stem)
    return SAME.get(name, name)


def described_name(description: str, stem: str) -> str:
    """A stamp's word, from the first line of its description, or from its file name where that is no plain noun.

    Example:
        >>> described_name("A pair of closed scissors.", "scissors_small_closed")
        'scissors'
        >>> described_name("Fire! Fire! Fire!", "fire"), described_name("Mars—the red planet. It’s just", "4_mars")
        ('fire', 'mars')
    """
    if stem in SPELLED_OUT:
        return SPELLED_OUT[stem]
    text = re.split(r"[.!?;:(,—–]", description.lower().strip(), maxsplit=1)[0]
    text = text.replace("“", "").replace("”", "").replace("’", "'").strip()
    is_noun = re.match(r"(an?|the|some|two) ", text) is not None
    while (shorter := _LEADING.sub("", text)) != text:
        text = shorter
    text = _TAIL.sub("", text).strip(" '\"")
    plain = text.replace(" ", "").replace("-", "").isalpha() and text not in _ADJECTIVES.split("|")
    if is_noun and plain and len(text.split()) <= 2:
        return text
    name = re.sub(r"[-_](mirror|photo|outline)(_\d+)?$", "", stem.lower())
    name = re.sub(r"^(t_|\d+_)", "", name)
    name = re.sub(r"([-_]?\d+[a-z]?|[-_][a-z])$", "", name) or stem.lower()
    return " ".join(re.split(r"[-_ ]+", name)).strip()
