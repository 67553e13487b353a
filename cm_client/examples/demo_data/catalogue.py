"""Which of Debian's pictures stand for which class of the ``materials`` set.

Patterns are file names (without ``.pat``) below ``gimp/2.0/patterns``, chosen for being photographs or looking like
them; cut-outs are folders (or files, without ``.png``) below ``tuxpaint/stamps``, photographs with an exact alpha mask.
"""

from __future__ import annotations

PATTERNS: dict[str, tuple[str, ...]] = {
    "brick": ("brick", "rock"),
    "wood": ("pine", "walnut", "wood1", "wood2", "wood3", "wood4", "wood5", "burlwood", "bark"),
    "parquet": ("parque1", "parque2", "parque3"),
    "marble": ("marble1", "marble2", "marble3", "pink_marble", "granite1"),
    "stone": ("stone33", "startile", "slate", "cracked", "Moonfoot"),
    "soil": ("ground1", "drymud", "dirt", "rust"),
    "hide": ("leather", "leopard"),
    "woven": ("burlap", "greyweave", "greyweave2", "green_curtains", "corkboard"),
    "paper": ("crinklepaper", "paper", "fibers"),
    "leaves": ("leaves", "leaves3", "leaves4", "leaves6", "clovers"),
    "water": ("pool", "electric", "waves", "rain", "water3", "ice2"),
    "sky": ("sky", "clouds", "starfield", "lightning"),
    "money": ("coins", "money"),
    "beans": ("java", "pebbles", "cashew"),
}

CUTOUTS: dict[str, tuple[str, ...]] = {
    "bird": ("animals/birds",),
    "sea animal": ("animals/fish",),
    "insect": ("animals/insects",),
    "cattle": ("animals/mammals/bovines", "animals/mammals/deer"),
    "big cat": ("animals/mammals/cats",),
    "rodent": ("animals/mammals/rodents",),
    "fruit": ("food/fruit",),
    "vegetable": ("food/vegetables",),
    "flower": ("plants/flowers",),
    "tree": ("plants/trees/birch", "plants/trees/holm_oak", "plants/trees/liberia-palm", "plants/trees/tree336"),
    "mushroom": ("plants/mushrooms",),
    "tool": ("household/tools",),
    "planet": ("space/planets", "space/moon"),
    "ball": (
        "sports/basketball",
        "sports/soccer",
        "sports/tennis_ball",
        "sports/cricketball",
        "sports/football",
    ),
    "instrument": ("hobbies/music/string", "hobbies/music/percussion"),
    "car": ("vehicles/auto", "vehicles/race", "vehicles/emergency", "vehicles/masstransit"),
}
