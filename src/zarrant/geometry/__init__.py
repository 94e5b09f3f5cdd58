"""Boxes, chunk grids, chunk keys and selections: which elements of an array lie in which chunks, and where.

`box`: a box of an array. `grid`, `rectilinear`: how an array is cut into chunks. `keys`: the key of a chunk. `segments`: one
dimension of a region. `region`: which elements belong to which values, split by chunk. `group_by_chunk`, `points`,
`disjoint_boxes`: regions given as columns. `overlay`: several regions on top of each other. `selection`: index expressions.
"""
