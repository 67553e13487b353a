"""Pure figures: arrays in, plotly figures (plain dicts) out. Nothing here reads a store, a clock or a socket."""
