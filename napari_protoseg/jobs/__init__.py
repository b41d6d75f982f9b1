"""Each long task as one generator of typed events, to be driven by a terminal or a thread."""
