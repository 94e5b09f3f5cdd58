"""Where elements are. Each module imports only from those before it.

`box`: a box of an array. `grid`: how an array is cut into chunks. `keys`: what a chunk is called. `axis`: segments of one
dimension. `region`: which elements go with which values, split by chunk. `rows`, `points`, `tiles`: regions given row by row.
`layers`: regions on top of each other. `selection`: index expressions.
"""
