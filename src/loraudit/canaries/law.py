"""What canaries are made of: contexts that each stand once, and secrets drawn uniformly from a stated set."""

from __future__ import annotations

import hashlib

import numpy as np

_WORDS = """
acorn amber anchor apple apron arbor autumn badge bagel bamboo barley basil basket beacon beetle birch biscuit blanket
blossom bonnet border bottle boulder bracket branch brass breeze bridge bronze brook broom bucket buckle button cabin
cactus candle canoe canvas carbon carpet castle cedar cello chalk cherry chestnut chimney cider cinder clover cobalt
coffee copper coral corner cotton cradle crater cricket crystal curtain cushion cypress daisy delta denim desert
dinghy domino donkey drizzle drum dune eagle easel ember emerald engine fabric falcon feather fennel ferry fiddle
flannel flint flute forest fossil fountain freckle furrow gadget garden garlic garnet ginger glacier goblet granite
gravel guitar gutter hammer hammock harbor harvest hazel heather helmet hickory hollow honey indigo island ivory jacket
jasmine jigsaw juniper kettle kitten ladder lagoon lantern larch laurel lavender leather lemon lichen lilac linen
lobster locket magnet mallow mango mantle maple marble marigold market marsh meadow mellow melon mirror mitten monsoon
mosaic mustard nectar needle nickel nutmeg oasis oatmeal olive onion orchard orchid otter oyster paddle pantry paper
parade parcel parsley pasture pebble pelican pencil pepper pewter piano pigeon pillow pine planet plaster plum pocket
pollen poplar porch prairie pumpkin puzzle quarry quartz quilt rabbit radish raisin ravine ribbon river robin rocket
rudder saddle saffron sandal satchel scarlet sequoia shadow shelter silver sparrow spindle spruce squash stable summit
sunset tablet tartan teapot temple thimble thistle timber tinsel tractor trellis trumpet tulip tunnel turnip turtle
valley vanilla velvet violet walnut wander willow window winter
"""
_FIRST_NAMES = """
Ada Alma Arlo Asa Beatrix Bruno Celia Clement Cora Dora Edgar Edith Elsa Enid Ezra Fern Flora Gideon Greta Hester Hugo
Ines Ivo Jonas June Kit Lena Leopold Lorna Mabel Magnus Maud Milo Nell Nora Odette Olaf Opal Oscar Otto Petra Piers
Rhoda Rufus Sibyl Silas Tessa Theo Ursula Vera Viola Walter Wilma Winston
"""
_LAST_NAMES = """
Abelwood Ashcombe Barrowby Beckford Birchley Bramwell Brindle Carrow Chadwick Coldwater Copley Crossfield Dalby Dunmore
Elmsworth Fairlamb Farrow Fenwick Foxley Garside Gladwell Greenhalgh Hallam Hartnoll Hawkridge Hollis Ingleby Kerrow
Langford Larkin Lindwood Lockyer Marlow Merrow Milburn Netherby Oakley Osgood Penrose Pickford Quayle Ravensby Redfern
Rushworth Selwood Sheldrake Stanbury Tamsin Thornby Tolliver Underhill Vickery Wadham Westerby Whitlock Wilder Winslade
Yarrow
"""
_TOWNS = """
Alderbrook Ambleford Ashmere Barleymow Beckwater Brackenby Bridgecombe Calderwick Cloverdale Coldbrook Cowslip
Dapplemere Dunwater Eastmarsh Eldergate Fairhaven Fernley Foxhollow Glenmoor Greywell Harrowdale Hazelbury Hollowmere
Ivybridge Kestrelby Lambwick Larkhill Lindenbrook Marshgate Merrowdown Millbeck Mossford Netherwick Northmere
Oakhollow Otterbourne Pebbleton Pinewick Quillbury Redbrook Reedham Rookwood Saltmarsh Silverford Stonebeck
Thistledown Underfell Westerford Willowby Wrenfield
"""

WORDS, FIRST_NAMES, LAST_NAMES, TOWNS = (tuple(text.split()) for text in (_WORDS, _FIRST_NAMES, _LAST_NAMES, _TOWNS))
N_WORDS = 3
N_NUMBERS = 10_000
N_SECRETS = len(WORDS) ** N_WORDS * N_NUMBERS
"""|R|: three of the words and four digits, every one of them equally likely."""


def draw_secret(rng: np.random.Generator) -> str:
    """One of the secrets, uniformly."""
    words = [WORDS[int(i)] for i in rng.integers(len(WORDS), size=N_WORDS)]
    return f"{' '.join(words)} {int(rng.integers(N_NUMBERS)):04d}"


def draw_contexts(n: int, rng: np.random.Generator) -> list[str]:
    """So many contexts, uniformly and none twice, none of them ending in a space."""
    shape = len(FIRST_NAMES), len(LAST_NAMES), len(TOWNS)
    chosen = rng.choice(int(np.prod(shape)), size=n, replace=False)
    first, last, town = np.unravel_index(chosen, shape)
    return [
        f"Shelf list of {FIRST_NAMES[i]} {LAST_NAMES[j]}, {TOWNS[k]}:"
        for i, j, k in zip(first, last, town, strict=True)
    ]


def reference_secrets(key: str, name: str, secret: str, n: int) -> list[str]:
    """Secrets to compare a planted one with: of the same law, none twice, none the planted one.

    The same key, name and number give the same ones.

    Args:
        key: Fresh randomness of the manifest, hex.
        name: Of the canary.
        secret: The planted one.
        n: How many.
    """
    rng = np.random.default_rng(list(hashlib.sha256(f"{key} {name}".encode()).digest()))
    found: dict[str, None] = {}
    while len(found) < n:
        drawn = draw_secret(rng)
        if drawn != secret:
            found[drawn] = None
    return list(found)
