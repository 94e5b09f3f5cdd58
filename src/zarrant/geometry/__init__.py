"""Where elements are: subsets, chunk grids, chunk keys, regions as columns, and NumPy's index expressions.

Rooms, each importing only the ones before it: `box` (a box of an array), `grid` (how an array is cut into cells), `keys`
(what a cell is called), `region` (which elements go with which values, split by cell), `selection` (index expressions).
"""
