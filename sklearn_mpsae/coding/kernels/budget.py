"""How many bytes a pursuit may take beyond its rows and codes."""

# A Gram matrix beyond this is not formed, whatever it would save.
GRAM_BYTES = 2 << 30

# Orthogonal pursuit cannot do without one: beyond this it is refused on the CPU.
ORTHOGONAL_BYTES = 8 << 30

# Rows of a Gram matrix that are multiplied on demand, and the correlations of the rows of
# X that wait for them.
DEMAND_BYTES = 1 << 30
WAITING_BYTES = 1 << 28
